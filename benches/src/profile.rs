//! What a sidecar does most, for the compiler.
//!
//! `benches/profile` builds a sidecar that counts which ways it takes; it writes its counts when it ends. Here it is led
//! through all that it is for: every shape of load, with its defaults and with all policies on. The counts become
//! `proxy/profile.profdata.xz`, by which `config/release` builds.

use crate::{
    application::Application,
    contestant::{Failure, Kind},
    load::Clients,
    peers::weir,
    scenario::Scenario,
};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use std::time::Duration;

/// How long each shape of load lasts.
const LASTS: Duration = Duration::from_secs(1);

/// How long a sidecar that has been told twice to end may take to write its counts.
const WRITES: Duration = Duration::from_secs(30);

/// Runs all loads, and ends the sidecars in order.
pub fn run() -> Result<(), Failure> {
    let binaries = weir::Binaries::find()?;
    let application = Application::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for kind in [Kind::Weir, Kind::WeirAll] {
            let mut pair = weir::start(&binaries, application.address, kind).await?;
            for scenario in Scenario::value_variants().iter().copied() {
                let outcome = Clients::connect(scenario, scenario.target(&pair)).await?.closed(LASTS).await?;
                if outcome.failed > 0 {
                    return Err(format!("{}: {:?}", scenario.name(), outcome.first_failure).into());
                }
            }
            for (_, process) in &mut pair.proxies {
                // The first lets what runs end, the second ends.
                process.signal(Signal::SIGTERM);
                tokio::time::sleep(LASTS).await;
                if process.is_running() {
                    process.signal(Signal::SIGTERM);
                }
                process.ended(WRITES).await;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::Command};

    /// A profile that this compiler cannot read would first be known at a release.
    #[test]
    fn the_compiler_reads_the_profile_by_which_the_sidecar_is_released() {
        let Some(xz) = weir_tests::peers::find("xz") else { return };
        let folder = tempfile::tempdir().unwrap();
        let (source, profile) = (folder.path().join("empty.rs"), folder.path().join("profile"));
        fs::write(&source, "pub fn empty() {}").unwrap();
        let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/profile.profdata.xz");
        let unpacked = Command::new(xz).args(["-dc", packed]).stdout(fs::File::create(&profile).unwrap()).status();
        assert!(unpacked.is_ok_and(|status| status.success()), "{packed} is unpacked by xz");
        let compiled = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--crate-type=lib", "--emit=obj"])
            .arg(format!("-Cprofile-use={}", profile.display()))
            .arg(&source)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            compiled.status.success(),
            "benches/profile writes it anew\n{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
    }
}
