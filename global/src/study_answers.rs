//! What both the API and the pages give of a study: its model as bytes, and the answer when studies cannot be read.
use axum::response::{IntoResponse, Response};
use federation::port::PortError;
use fl::{
    course::{Course, Standing},
    export, order, site,
    study::Study,
};
use node::problem::Problem;

/// The model of a study that is done, as ONNX.
pub(crate) fn onnx(course: &Course) -> Option<Vec<u8>> {
    let study = done(course)?;
    let model = site::model(&study).ok()?;
    export::onnx(&model, course.model(), study.name.as_str())
}

/// SHA-256 of the weights of a study that is done, in hexadecimal digits.
pub(crate) fn sha256(course: &Course) -> Option<String> {
    let model = site::model(&done(course)?).ok()?;
    export::safetensors_sha256(&model, course.model()).map(|digest| hex(&digest))
}

/// A study that has ended with a model.
fn done(course: &Course) -> Option<Study> {
    let is_done = *course.standing() == Standing::Done;
    is_done.then(|| order::parse(course.text()).ok()).flatten()
}

/// The weights of a study that is done, as safetensors.
pub(crate) fn weights(course: &Course) -> Option<Vec<u8>> {
    let model = site::model(&done(course)?).ok()?;
    export::safetensors(&model, course.model())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The log learns why; the client that it was no fault of its own.
pub(crate) fn failed(error: &PortError) -> Response {
    tracing::error!(%error, source = ?error.source, "studies failed");
    Problem::internal().into_response()
}
