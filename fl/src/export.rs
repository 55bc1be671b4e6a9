//! Models as files that others read: safetensors (huggingface/safetensors, README, "Format") and ONNX (onnx/onnx,
//! `onnx.proto`, IR version 8, operator set 13).
use crate::dense::Dense;

const IR_VERSION: u64 = 8;
const OPERATORS: u64 = 13;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// A layer: its name, inputs, units, weights (row by row of its inputs) and biases.
type Layer<'a> = (String, usize, usize, &'a [f32], &'a [f32]);

/// The layers of a model; none when it has another number of parameters.
fn layers<'a>(model: &Dense, parameters: &'a [f32]) -> Option<Vec<Layer<'a>>> {
    let mut rest = parameters;
    let mut found = Vec::new();
    for (at, (from, to)) in model.layers().enumerate() {
        let (weights, after) = rest.split_at_checked(from * to)?;
        let (biases, after) = after.split_at_checked(to)?;
        rest = after;
        found.push((format!("layer{at}"), from, to, weights, biases));
    }
    rest.is_empty().then_some(found)
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The weights as safetensors: `layerN.weight` (inputs × units) and `layerN.bias`; none when the model has another number
/// of parameters.
#[must_use]
pub fn safetensors(model: &Dense, parameters: &[f32]) -> Option<Vec<u8>> {
    let (mut header, mut data) = (
        String::from("{\"__metadata__\":{\"format\":\"pt\"}"),
        Vec::new(),
    );
    for (name, from, to, weights, biases) in layers(model, parameters)? {
        for (part, shape, values) in [
            ("weight", format!("{from},{to}"), weights),
            ("bias", to.to_string(), biases),
        ] {
            let begin = data.len();
            data.extend(bytes_of(values));
            let end = data.len();
            header += &format!(
                ",\"{name}.{part}\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}}"
            );
        }
    }
    header.push('}');
    // The data begins at a multiple of eight bytes.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(data);
    Some(file)
}

/// The model as ONNX: input `features` (any number of records × inputs, scaled as the study says), output `probability`
/// (records × 1); none when it has another number of parameters.
#[must_use]
pub fn onnx(model: &Dense, parameters: &[f32], name: &str) -> Option<Vec<u8>> {
    let layers = layers(model, parameters)?;
    let mut graph = Message::default();
    let mut before = "features".to_owned();
    let last = layers.len().saturating_sub(1);
    for (at, (layer, ..)) in layers.iter().enumerate() {
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let sum = format!("{layer}.sum");
        graph.message(1, node("Gemm", &[&before, &weight, &bias], &sum));
        if at < last {
            before = format!("{layer}.out");
            graph.message(1, node("Relu", &[&sum], &before));
        } else {
            graph.message(1, node("Sigmoid", &[&sum], "probability"));
        }
    }
    graph.text(2, name);
    for (layer, from, to, weights, biases) in &layers {
        graph.message(
            5,
            tensor(&format!("{layer}.weight"), &[*from, *to], weights),
        );
        graph.message(5, tensor(&format!("{layer}.bias"), &[*to], biases));
    }
    graph.message(11, value("features", model.inputs()));
    graph.message(12, value("probability", 1));
    let mut file = Message::default();
    file.number(1, IR_VERSION);
    file.text(2, "medmesh");
    file.message(7, graph);
    let mut operators = Message::default();
    operators.number(2, OPERATORS);
    file.message(8, operators);
    Some(file.0)
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let mut node = Message::default();
    inputs.iter().for_each(|input| node.text(1, input));
    node.text(2, output);
    node.text(3, output);
    node.text(4, operator);
    node
}

fn tensor(name: &str, shape: &[usize], values: &[f32]) -> Message {
    let mut tensor = Message::default();
    shape.iter().for_each(|size| tensor.number(1, *size as u64));
    tensor.number(2, FLOAT);
    tensor.text(8, name);
    tensor.bytes(9, &bytes_of(values));
    tensor
}

/// An input or output of some records of `width` numbers.
fn value(name: &str, width: usize) -> Message {
    let (mut records, mut columns) = (Message::default(), Message::default());
    records.text(2, "records");
    columns.number(1, width as u64);
    let (mut shape, mut tensor) = (Message::default(), Message::default());
    shape.message(1, records);
    shape.message(1, columns);
    tensor.number(1, FLOAT);
    tensor.message(2, shape);
    let (mut kind, mut value) = (Message::default(), Message::default());
    kind.message(1, tensor);
    value.text(1, name);
    value.message(2, kind);
    value
}

/// A message of Protocol Buffers (encoding: protobuf.dev, "Encoding"), field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: Self) {
        self.bytes(field, &message.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Model;
    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::Value;

    #[test]
    fn every_weight_of_a_model_is_in_its_file_where_the_header_says() {
        let model = Dense::of(&Model::Mlp { hidden: vec![5, 4] }, 3).unwrap();
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
        assert_eq!(safetensors(&model, &parameters[1..]), None);
        assert_eq!(onnx(&model, &parameters[1..], "m"), None);
    }

    #[test]
    fn an_onnx_file_begins_with_its_version_and_holds_every_weight() {
        let model = Dense::of(&Model::Logistic {}, 2).unwrap();
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
}
