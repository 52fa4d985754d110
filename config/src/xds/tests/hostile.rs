//! No bytes make decoding panic, and what is refused says why.

use super::values;
use crate::model::Kind;
use crate::xds::{Class, Item, decode, encode, limits};
use proptest::prelude::*;
use std::sync::Arc;

fn try_all(body: &[u8]) -> Result<(), TestCaseError> {
    for kind in Kind::ALL {
        match decode(kind, body) {
            Ok(decoded) => {
                // What was accepted can be said again, and means the same.
                let again = decode(kind, &encode(&decoded.resource, Class::Sidecar));
                let again = again.map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(again.resource, decoded.resource);
            }
            Err(rejected) => prop_assert!((1..=limits::ISSUES).contains(&rejected.issues.len())),
        }
    }
    Ok(())
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        values::bundle().prop_map(|x| Item::Secret(Arc::new(x))),
        values::cluster().prop_map(|x| Item::Cluster(Arc::new(x))),
        values::endpoints().prop_map(|x| Item::Endpoints(Arc::new(x))),
        values::listener().prop_map(|x| Item::Listener(Arc::new(x))),
        values::routes().prop_map(|x| Item::Route(Arc::new(x))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        try_all(&body)?;
    }

    #[test]
    fn damaged_resources(item in item(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut body = encode(&item, Class::Sidecar).to_vec();
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        try_all(&body)?;
    }
}
