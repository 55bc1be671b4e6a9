//! The messages of `proto/mesh.proto`, generated: what the transport says. What it carries is in crate `messages`.
#![expect(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated; the comments are in the proto file"
)]

tonic::include_proto!("medmesh.v1");
