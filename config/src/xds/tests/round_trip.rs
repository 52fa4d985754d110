//! Model → bytes → model is the identity; the same value always has the same bytes.

use super::values;
use crate::xds::{Class, Item, decode, encode};
use proptest::prelude::*;
use std::sync::Arc;

fn survives(item: Item) -> Result<(), TestCaseError> {
    let body = encode(&item, Class::Sidecar);
    prop_assert_eq!(&encode(&item, Class::Sidecar), &body, "the bytes differ from one time to the next");
    let decoded = decode(item.kind(), &body).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert!(decoded.notes.is_empty(), "{:?}", decoded.notes);
    prop_assert_eq!(decoded.resource, item);
    Ok(())
}

/// Other clients' resources are read back too, if not always to the same value.
fn is_readable(item: &Item) -> Result<(), TestCaseError> {
    for class in [Class::Envoy, Class::Grpc] {
        let read = decode(item.kind(), &encode(item, class));
        prop_assert!(read.is_ok(), "{class:?}: {}", read.unwrap_err());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_bundle(x in values::bundle()) {
        survives(Item::Secret(Arc::new(x)))?;
    }

    #[test]
    fn a_cluster(x in values::cluster()) {
        let item = Item::Cluster(Arc::new(x));
        is_readable(&item)?;
        survives(item)?;
    }

    #[test]
    fn endpoints(x in values::endpoints()) {
        survives(Item::Endpoints(Arc::new(x)))?;
    }

    #[test]
    fn a_listener(x in values::listener()) {
        survives(Item::Listener(Arc::new(x)))?;
    }

    #[test]
    fn routes(x in values::routes()) {
        let item = Item::Route(Arc::new(x));
        is_readable(&item)?;
        survives(item)?;
    }
}
