//! The messages of `proto/payload.proto`, generated.
#![expect(missing_docs, reason = "generated; the comments are in the proto file")]

include!(concat!(env!("OUT_DIR"), "/medmesh.v1.rs"));
