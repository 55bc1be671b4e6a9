//! The parts of an ONNX file (onnx/onnx, `onnx.proto`), written field by field.

/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;
/// `TensorProto.DataType.INT64`.
const INT64: u64 = 7;

/// What a node is told besides its inputs.
pub(super) enum Attribute<'a> {
    /// One number.
    Int(&'a str, i64),
    /// Several.
    Ints(&'a str, &'a [i64]),
}

/// An operator between named values.
pub(super) fn node(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[Attribute<'_>],
) -> Message {
    named(operator, inputs, &[output], attributes)
}

/// The same with several outputs; one that is called nothing is not wanted.
pub(super) fn named(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Attribute<'_>],
) -> Message {
    let mut node = Message::default();
    inputs.iter().for_each(|input| node.text(1, input));
    outputs.iter().for_each(|output| node.text(2, output));
    node.text(3, outputs.last().copied().unwrap_or_default());
    node.text(4, operator);
    for attribute in attributes {
        let mut message = Message::default();
        match attribute {
            Attribute::Int(name, value) => {
                message.text(1, name);
                message.number(3, value.cast_unsigned());
                message.number(20, 2);
            }
            Attribute::Ints(name, values) => {
                message.text(1, name);
                values
                    .iter()
                    .for_each(|value| message.number(8, value.cast_unsigned()));
                message.number(20, 7);
            }
        }
        node.message(5, message);
    }
    node
}

/// Numbers that the graph holds.
pub(super) fn tensor(name: &str, shape: &[usize], values: &[f32]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    constant(name, shape, FLOAT, &bytes)
}

/// Places that the graph holds; a single one has the empty shape.
pub(super) fn places(name: &str, shape: &[usize], values: &[i64]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    constant(name, shape, INT64, &bytes)
}

fn constant(name: &str, shape: &[usize], kind: u64, bytes: &[u8]) -> Message {
    let mut tensor = Message::default();
    shape.iter().for_each(|size| tensor.number(1, *size as u64));
    tensor.number(2, kind);
    tensor.text(8, name);
    tensor.bytes(9, bytes);
    tensor
}

/// A value that goes in or out: any number of records of this shape.
pub(super) fn value(name: &str, shape: &[usize]) -> Message {
    let mut records = Message::default();
    records.text(2, "records");
    let mut dimensions = Message::default();
    dimensions.message(1, records);
    for size in shape {
        let mut dimension = Message::default();
        dimension.number(1, *size as u64);
        dimensions.message(1, dimension);
    }
    let mut tensor = Message::default();
    tensor.number(1, FLOAT);
    tensor.message(2, dimensions);
    let (mut kind, mut value) = (Message::default(), Message::default());
    kind.message(1, tensor);
    value.text(1, name);
    value.message(2, kind);
    value
}

/// A message of Protocol Buffers (encoding: protobuf.dev, "Encoding"), field by field.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    pub(super) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub(super) fn message(&mut self, field: u64, message: Self) {
        self.bytes(field, &message.0);
    }
}
