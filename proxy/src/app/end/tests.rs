//! Tests of the end, in tokio's paused time.

use super::*;
use crate::drain::{self, Watch};

struct Stand {
    inbound: Watch,
    outbound: Watch,
    commands: mpsc::Sender<Command>,
    end: tokio::task::JoinHandle<Ended>,
    began: Instant,
}

fn stand() -> Stand {
    let ((inbound, watch_in), (outbound, watch_out)) = (drain::channel(), drain::channel());
    let (commands, mut received) = mpsc::channel(8);
    let end = End {
        inbound,
        outbound,
        delay: Duration::from_secs(5),
        limit: Duration::from_secs(30),
        handed_over: Duration::from_secs(86_400),
    };
    let end = tokio::spawn(async move { end.run(&mut received, |_| {}).await });
    Stand { inbound: watch_in, outbound: watch_out, commands, end, began: Instant::now() }
}

#[tokio::test(start_paused = true)]
async fn callers_first_then_the_application() {
    let Stand { mut inbound, mut outbound, commands, end, .. } = stand();
    commands.send(Command::Drain).await.unwrap();
    assert_eq!(inbound.how().await.unwrap().accept, Accept::For(Duration::from_secs(5)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!outbound.is_draining(), "requests that are answered may need other services");
    drop(inbound);
    assert_eq!(outbound.how().await.unwrap().accept, Accept::UntilQuiet(QUIET));
    drop(outbound);
    assert_eq!(end.await.unwrap(), Ended::Drained);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_has_ended_is_not_waited_for() {
    let Stand { mut inbound, mut outbound, commands, end, .. } = stand();
    commands.send(Command::Finish).await.unwrap();
    assert_eq!(inbound.how().await.unwrap().accept, Accept::For(Duration::ZERO));
    drop(inbound);
    assert_eq!(outbound.how().await.unwrap().accept, Accept::UntilQuiet(Duration::ZERO));
    drop(outbound);
    assert_eq!(end.await.unwrap(), Ended::Drained);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_a_second_word_end_it() {
    let Stand { inbound, outbound, commands, end, began } = stand();
    commands.send(Command::Drain).await.unwrap();
    commands.send(Command::Drain).await.unwrap();
    assert_eq!(end.await.unwrap(), Ended::Cut);
    assert_eq!(began.elapsed().as_secs(), 30);
    drop((inbound, outbound));
    let Stand { inbound: _inbound, outbound: _outbound, commands, end, began } = stand();
    commands.send(Command::Drain).await.unwrap();
    commands.send(Command::Quit).await.unwrap();
    assert_eq!(end.await.unwrap(), Ended::Cut);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_hand_over_there_is_time_until_told_otherwise() {
    let Stand { mut inbound, outbound, commands, end, began } = stand();
    commands.send(Command::HandedOver).await.unwrap();
    assert_eq!(inbound.how().await.unwrap().patience, LONG_PATIENCE);
    assert!(outbound.is_draining(), "the new process has both");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!end.is_finished(), "longer than it may usually take");
    commands.send(Command::Drain).await.unwrap();
    let mut silent = inbound.clone();
    silent.out_of_patience().await;
    assert_eq!(began.elapsed().as_secs(), 62, "a silent connection is closed as usual");
    drop(silent);
    assert_eq!(end.await.unwrap(), Ended::Cut);
    assert_eq!(began.elapsed().as_secs(), 90);
    drop(inbound);
}
