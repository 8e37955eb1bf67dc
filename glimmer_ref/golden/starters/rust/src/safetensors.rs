//! Reads and writes safetensors files: eight bytes with the length of the header, the header as JSON, then the data.

use crate::json::Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// An array of floats or of whole numbers; the other one of the two is empty.
#[derive(Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub x: Vec<f32>,
    pub whole: Vec<i64>,
}

pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    pub fn floats(shape: &[usize], x: Vec<f32>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), x.len());
        Tensor { shape: shape.to_vec(), x, whole: Vec::new() }
    }

    pub fn whole(shape: &[usize], whole: Vec<i64>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), whole.len());
        Tensor { shape: shape.to_vec(), x: Vec::new(), whole }
    }
}

fn sizes(list: &Json) -> Vec<usize> {
    list.list().iter().map(Json::size).collect()
}

/// Each group of N bytes as a number.
fn numbers<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|chunk| from(chunk.try_into().unwrap())).collect()
}

pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let begin = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = Json::parse(std::str::from_utf8(&bytes[8..begin]).expect("UTF-8"));
    let mut tensors = Tensors::new();
    for (name, entry) in header.map().iter().filter(|(name, _)| name != "__metadata__") {
        let (shape, offsets) = (sizes(entry.get("shape")), sizes(entry.get("data_offsets")));
        let data = &bytes[begin + offsets[0]..begin + offsets[1]];
        let tensor = match entry.get("dtype").text().unwrap() {
            "F32" => Tensor::floats(&shape, numbers(data, f32::from_le_bytes)),
            "F64" => Tensor::floats(&shape, numbers(data, |b| f64::from_le_bytes(b) as f32)),
            "BF16" => Tensor::floats(&shape, numbers(data, |b: [u8; 2]| f32::from_le_bytes([0, 0, b[0], b[1]]))),
            "I32" => Tensor::whole(&shape, numbers(data, |b| i32::from_le_bytes(b) as i64)),
            "I64" => Tensor::whole(&shape, numbers(data, i64::from_le_bytes)),
            other => panic!("{name} is {other}; expected F32, F64, BF16, I32 or I64"),
        };
        tensors.insert(name.clone(), tensor);
    }
    tensors
}

pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        let begin = data.len();
        data.extend(tensor.x.iter().flat_map(|x| x.to_le_bytes()));
        data.extend(tensor.whole.iter().flat_map(|x| x.to_le_bytes()));
        let dtype = if tensor.whole.is_empty() { "F32" } else { "I64" };
        let (shape, end) = (&tensor.shape, data.len());
        entries.push(format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}"));
    }
    let header = format!("{{{}}}", entries.join(","));
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(path, file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
