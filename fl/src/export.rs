//! Models as files that others read: safetensors (huggingface/safetensors, README, "Format") and ONNX (onnx/onnx,
//! `onnx.proto`, IR version 8, operator set 13).
mod onnx;

use crate::{
    dense::Dense,
    net::{Cox, Gru, Net, Tcn},
};
use onnx::{Attribute, Message, named, node, places, tensor, value};
use ring::digest::{Context, SHA256};

const IR_VERSION: u64 = 8;
const OPERATORS: u64 = 13;
/// Numbers of which the bytes are made at once.
const PIECE: usize = 1 << 16;
/// Room for the header of a file of weights, so that it is not moved while it grows.
const HEADER_BYTES: usize = 64 << 10;

/// Numbers of a model: their name, their shape and themselves.
struct Part<'a> {
    name: String,
    shape: Vec<usize>,
    values: &'a [f32],
}

/// Names and shapes of a model's numbers, in their order.
fn shapes(net: &Net) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    let mut part = |name: String, shape: Vec<usize>| shapes.push((name, shape));
    match net {
        Net::Dense(dense) => {
            for (at, (from, to)) in dense.layers().enumerate() {
                part(format!("layer{at}.weight"), vec![from, to]);
                part(format!("layer{at}.bias"), vec![to]);
            }
        }
        Net::Gru(gru) => {
            let (inputs, hidden) = (gru.width(), gru.hidden());
            part("gru.weight".into(), vec![1, 3 * hidden, inputs]);
            part("gru.recurrent".into(), vec![1, 3 * hidden, hidden]);
            part("gru.bias".into(), vec![1, 6 * hidden]);
            part("out.weight".into(), vec![hidden, 1]);
            part("out.bias".into(), vec![1]);
        }
        Net::Tcn(tcn) => {
            for (at, (from, to, _)) in tcn.layers().enumerate() {
                part(format!("conv{at}.weight"), vec![to, from, tcn.kernel()]);
                part(format!("conv{at}.bias"), vec![to]);
            }
            part("out.weight".into(), vec![tcn.last(), 1]);
            part("out.bias".into(), vec![1]);
        }
        Net::Cox(cox) => part(
            "hazard.weight".into(),
            vec![Net::Cox(cox.clone()).inputs(), 1],
        ),
    }
    shapes
}

/// The numbers of a model; none when it has another number of parameters.
fn parts<'a>(net: &Net, parameters: &'a [f32]) -> Option<Vec<Part<'a>>> {
    let mut rest = parameters;
    let mut found = Vec::new();
    for (name, shape) in shapes(net) {
        let (values, after) = rest.split_at_checked(shape.iter().product())?;
        rest = after;
        found.push(Part {
            name,
            shape,
            values,
        });
    }
    rest.is_empty().then_some(found)
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The weights as safetensors, each under the name that it has in the ONNX file; none when the model has another number of
/// parameters.
#[must_use]
pub fn safetensors(net: &Net, parameters: &[f32]) -> Option<Vec<u8>> {
    let mut file = Vec::with_capacity(parameters.len() * 4 + HEADER_BYTES);
    pieces(net, parameters, |piece| file.extend_from_slice(piece))?;
    Some(file)
}

/// SHA-256 of what [`safetensors`] gives, without a copy of the model.
#[must_use]
pub fn safetensors_sha256(net: &Net, parameters: &[f32]) -> Option<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    pieces(net, parameters, |piece| context.update(piece))?;
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Some(digest)
}

/// The file of the weights, piece after piece.
fn pieces(net: &Net, parameters: &[f32], mut take: impl FnMut(&[u8])) -> Option<()> {
    let parts = parts(net, parameters)?;
    let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    let mut begin = 0;
    for part in &parts {
        let end = begin + part.values.len() * 4;
        let shape: Vec<_> = part.shape.iter().map(ToString::to_string).collect();
        header += &format!(
            ",\"{}\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[{begin},{end}]}}",
            part.name,
            shape.join(",")
        );
        begin = end;
    }
    header.push('}');
    // The data begins at a multiple of eight bytes.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    take(&(header.len() as u64).to_le_bytes());
    take(header.as_bytes());
    for values in parts.iter().flat_map(|part| part.values.chunks(PIECE)) {
        take(&bytes_of(values));
    }
    Some(())
}

/// The model as ONNX; none when it has another number of parameters.
///
/// Input `features`: any number of records × inputs, or × windows × inputs of a model over windows, scaled as the study
/// says. Output `probability` (records × 1); `log_hazard` (records × 1) of a Cox model.
#[must_use]
pub fn onnx(net: &Net, parameters: &[f32], name: &str) -> Option<Vec<u8>> {
    let parts = parts(net, parameters)?;
    let mut graph = Message::default();
    let constants = match net {
        Net::Dense(dense) => dense_nodes(dense, &mut graph),
        Net::Gru(gru) => gru_nodes(gru, &mut graph),
        Net::Tcn(tcn) => tcn_nodes(tcn, &mut graph),
        Net::Cox(cox) => cox_nodes(cox, &mut graph),
    };
    graph.text(2, name);
    for part in &parts {
        graph.message(5, tensor(&part.name, &part.shape, part.values));
    }
    for constant in constants {
        graph.message(5, constant);
    }
    let (shape, output) = match net {
        Net::Gru(gru) => (vec![gru.windows(), gru.width()], "probability"),
        Net::Tcn(tcn) => (vec![tcn.windows(), tcn.width()], "probability"),
        Net::Dense(_) => (vec![net.inputs()], "probability"),
        Net::Cox(_) => (vec![net.inputs()], "log_hazard"),
    };
    graph.message(11, value("features", &shape));
    graph.message(12, value(output, &[1]));
    let mut file = Message::default();
    file.number(1, IR_VERSION);
    file.text(2, "medmesh");
    file.message(7, graph);
    let mut operators = Message::default();
    operators.number(2, OPERATORS);
    file.message(8, operators);
    Some(file.0)
}

fn dense_nodes(dense: &Dense, graph: &mut Message) -> Vec<Message> {
    let mut before = "features".to_owned();
    let last = dense.layers().count().saturating_sub(1);
    for at in 0..=last {
        let (weight, bias) = (format!("layer{at}.weight"), format!("layer{at}.bias"));
        let sum = format!("layer{at}.sum");
        graph.message(1, node("Gemm", &[&before, &weight, &bias], &sum, &[]));
        if at < last {
            before = format!("layer{at}.out");
            graph.message(1, node("Relu", &[&sum], &before, &[]));
        } else {
            graph.message(1, node("Sigmoid", &[&sum], "probability", &[]));
        }
    }
    Vec::new()
}

/// The linear unit on what a model over windows has at its end.
fn out(before: &str, graph: &mut Message) {
    graph.message(
        1,
        node("Gemm", &[before, "out.weight", "out.bias"], "logit", &[]),
    );
    graph.message(1, node("Sigmoid", &["logit"], "probability", &[]));
}

fn gru_nodes(gru: &Gru, graph: &mut Message) -> Vec<Message> {
    // The operator's input is windows × records × inputs.
    let order = [Attribute::Ints("perm", &[1, 0, 2])];
    graph.message(1, node("Transpose", &["features"], "windows", &order));
    let attributes = [
        Attribute::Int("hidden_size", gru.hidden() as i64),
        Attribute::Int("linear_before_reset", 1),
    ];
    let inputs = ["windows", "gru.weight", "gru.recurrent", "gru.bias"];
    graph.message(1, named("GRU", &inputs, &["", "last"], &attributes));
    graph.message(1, node("Squeeze", &["last", "direction"], "state", &[]));
    out("state", graph);
    vec![places("direction", &[1], &[0])]
}

fn tcn_nodes(tcn: &Tcn, graph: &mut Message) -> Vec<Message> {
    // The operator's input is records × channels × windows.
    let order = [Attribute::Ints("perm", &[0, 2, 1])];
    graph.message(1, node("Transpose", &["features"], "channels", &order));
    let mut before = "channels".to_owned();
    for (at, (_, _, apart)) in tcn.layers().enumerate() {
        let (weight, bias) = (format!("conv{at}.weight"), format!("conv{at}.bias"));
        let (sum, output) = (format!("conv{at}.sum"), format!("conv{at}.out"));
        let back = ((tcn.kernel() - 1) * apart) as i64;
        let attributes = [
            Attribute::Ints("dilations", &[apart as i64]),
            Attribute::Ints("kernel_shape", &[tcn.kernel() as i64]),
            Attribute::Ints("pads", &[back, 0]),
        ];
        graph.message(
            1,
            node("Conv", &[&before, &weight, &bias], &sum, &attributes),
        );
        graph.message(1, node("Relu", &[&sum], &output, &[]));
        before = output;
    }
    let axis = [Attribute::Int("axis", 2)];
    graph.message(1, node("Gather", &[&before, "window"], "state", &axis));
    out("state", graph);
    let last = tcn.windows() as i64 - 1;
    vec![places("window", &[], &[last])]
}

fn cox_nodes(_: &Cox, graph: &mut Message) -> Vec<Message> {
    let inputs = ["features", "hazard.weight"];
    graph.message(1, node("MatMul", &inputs, "log_hazard", &[]));
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Model;
    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::Value;

    #[test]
    fn every_weight_of_a_model_is_in_its_file_where_the_header_says() {
        let model = Net::of(&Model::Mlp { hidden: vec![5, 4] }, 3, 1);
        let parameters = model.initial(&mut StdRng::seed_from_u64(4));
        let file = safetensors(&model, &parameters).unwrap();
        let (length, rest) = file.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        assert_eq!((8 + header.len()) % 8, 0);
        let header: Value = serde_json::from_slice(header).unwrap();
        assert_eq!(header["layer1.weight"]["shape"], serde_json::json!([5, 4]));
        assert_eq!(header["layer2.bias"]["shape"], serde_json::json!([1]));
        assert_eq!(
            header["layer0.weight"]["data_offsets"],
            serde_json::json!([0, 60])
        );
        assert_eq!(data, bytes_of(&parameters));
        let digest = ring::digest::digest(&SHA256, &file);
        let known = safetensors_sha256(&model, &parameters);
        assert_eq!(known.unwrap(), digest.as_ref());
        assert_eq!(safetensors(&model, &parameters[1..]), None);
        assert_eq!(onnx(&model, &parameters[1..], "m"), None);
    }

    #[test]
    fn an_onnx_file_begins_with_its_version_and_holds_every_weight() {
        let model = Net::of(&Model::Logistic {}, 2, 1);
        let file = onnx(&model, &[1.5, -2.5, 0.25], "heart").unwrap();
        assert_eq!(file[..2], [8, 8]);
        let weights = bytes_of(&[1.5, -2.5]);
        assert!(file.windows(8).any(|part| part == weights));
        for word in [
            "Gemm",
            "Sigmoid",
            "features",
            "probability",
            "records",
            "heart",
        ] {
            assert!(
                file.windows(word.len()).any(|part| part == word.as_bytes()),
                "{word}"
            );
        }
    }

    #[test]
    fn every_kind_of_model_is_written_with_its_own_operators() {
        for (model, inputs, windows, words) in [
            (
                Model::Gru { hidden: 3 },
                2,
                4,
                ["GRU", "Squeeze", "linear_before_reset"],
            ),
            (
                Model::Tcn {
                    channels: vec![3, 2],
                    kernel: 2,
                },
                2,
                4,
                ["Conv", "Gather", "dilations"],
            ),
            (
                Model::Cox {},
                5,
                1,
                ["MatMul", "log_hazard", "hazard.weight"],
            ),
        ] {
            let net = Net::of(&model, inputs, windows);
            let parameters: Vec<f32> = (0..net.parameters()).map(|at| at as f32 + 0.5).collect();
            let file = onnx(&net, &parameters, "m").unwrap();
            for word in words {
                let found = file.windows(word.len()).any(|part| part == word.as_bytes());
                assert!(found, "{word}");
            }
            // Every number is in it once, in its own order.
            let last = bytes_of(&parameters[parameters.len() - 2..]);
            assert!(safetensors(&net, &parameters).unwrap().ends_with(&last));
            assert_eq!(onnx(&net, &parameters[1..], "m"), None);
        }
    }
}
