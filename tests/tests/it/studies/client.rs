//! The Python package beside the mesh: it is built while the mesh learns, and checked at the end.
use super::{example, page};
use anyhow::{Context, Result, ensure};
use fl::{export, net::Net, study::Model};
use medmesh_tests::mesh::Mesh;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The process that builds, and then checks what it is told.
pub struct Client {
    folder: PathBuf,
    check: Child,
}

impl Client {
    /// Begins to build in a folder of the test's own.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let work = folder.join("python");
        fs::create_dir(&work)?;
        let check = Command::new(std::env::var("MEDMESH_TEST_PYTHON")?)
            .arg(root.join("tests/python/check_client.py"))
            .arg(root.join("clients/python").canonicalize()?)
            .arg(&work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self {
            folder: folder.to_owned(),
            check,
        })
    }

    /// Checks all of it on a mesh with three studies: one that is done, one that hides records, one that was declined.
    pub fn check(mut self, mesh: &Mesh, [done, private, declined]: [&str; 3]) -> Result<()> {
        let config = mesh.config("edge:us-f1");
        let ledger = [
            "fl",
            "ledger",
            "--json",
            "--config",
            &config.to_string_lossy(),
        ];
        let models = [vec![self.logistic()?], self.drawn_models()?].concat();
        let given = json!({
            "mesh": mesh.dir,
            "folder": self.folder,
            "study": done,
            "private": private,
            "declined": declined,
            "text": fs::read_to_string(example("study.toml"))?,
            "ledger": mesh.medmesh(&ledger)?,
            "models": models,
            "python": page::python(),
        });
        let mut input = self.check.stdin.take().context("standard input")?;
        // A check that has ended says why itself.
        let _broken = input.write_all(given.to_string().as_bytes());
        drop(input);
        let checked = self.check.wait_with_output()?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            checked.status.success(),
            "{}\n{}",
            said(&checked.stdout),
            said(&checked.stderr)
        );
        Ok(())
    }

    /// The study's own model, as it was exported.
    fn logistic(&self) -> Result<Value> {
        let file = fs::read(self.folder.join("model/model.safetensors"))?;
        let (length, rest) = file.split_first_chunk::<8>().context("a header")?;
        let data = rest.get(u64::from_le_bytes(*length) as usize..);
        let data = data.context("the data")?.chunks_exact(4);
        let parameters: Vec<_> = data
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let model = Net::of(&Model::Logistic {}, 13, 1);
        ensure!(parameters.len() == model.parameters());
        Ok(case(
            &model,
            &parameters,
            &self.folder.join("model/model.onnx"),
        ))
    }

    /// A model with random weights, of so many windows of so many inputs.
    fn drawn(&self, name: &str, model: &Model, (inputs, windows): (usize, usize)) -> Result<Value> {
        let model = Net::of(model, inputs, windows);
        let parameters = model.initial(&mut StdRng::seed_from_u64(11));
        // A Cox model begins with zeros, which would say nothing.
        let parameters: Vec<f32> = parameters
            .iter()
            .enumerate()
            .map(|(at, value)| value + 0.01 * at as f32)
            .collect();
        let path = self.folder.join(format!("{name}.onnx"));
        let file = export::onnx(&model, &parameters, name).context("a file")?;
        fs::write(&path, file)?;
        Ok(case(&model, &parameters, &path))
    }

    /// One model of each kind.
    fn drawn_models(&self) -> Result<Vec<Value>> {
        let mlp = Model::Mlp {
            hidden: vec![17, 8],
        };
        let tcn = Model::Tcn {
            channels: vec![6, 4, 3],
            kernel: 3,
        };
        Ok(vec![
            self.drawn("mlp", &mlp, (13, 1))?,
            self.drawn("gru", &Model::Gru { hidden: 9 }, (5, 7))?,
            self.drawn("tcn", &tcn, (4, 9))?,
            self.drawn("cox", &Model::Cox {}, (13, 1))?,
        ])
    }
}

/// Records of a model and what we make of them; of a model over windows each is one list for each window.
fn case(model: &Net, parameters: &[f32], onnx: &Path) -> Value {
    let mut random = StdRng::seed_from_u64(12);
    let count = model.inputs();
    let record = |_| -> Vec<f32> { (0..count).map(|_| random.random_range(-3.0..3.0)).collect() };
    let records: Vec<_> = (0..200).map(record).collect();
    let windows = match model {
        Net::Gru(gru) => Some(gru.width()),
        Net::Tcn(tcn) => Some(tcn.width()),
        Net::Dense(_) | Net::Cox(_) => None,
    };
    let shaped = |record: &Vec<f32>| match windows {
        Some(width) => json!(record.chunks(width).collect::<Vec<_>>()),
        None => json!(record),
    };
    let inputs: Vec<_> = records.iter().map(shaped).collect();
    let is_hazard = matches!(model, Net::Cox(_));
    let of = |record: &Vec<f32>| {
        if is_hazard {
            model.logit(parameters, record)
        } else {
            model.probability(parameters, record)
        }
    };
    let outputs: Vec<_> = records.iter().map(of).collect();
    let output = if is_hazard {
        "log_hazard"
    } else {
        "probability"
    };
    json!({ "onnx": onnx, "inputs": inputs, "output": output, "outputs": outputs })
}
