//! GLIMMER, stage by stage: fill in a stage, run this program on a case, and see whether the stage is right.
//!
//!     cargo run -q --release -- CASE_DIR OUT.safetensors
//!     python check.py CASE_DIR OUT.safetensors
//!
//! A stage returns its tensors by name, or None as long as it is not implemented.
//{about}

#![allow(dead_code)] // stages that are not implemented use nothing

mod json;
mod safetensors;

use json::Json;
use safetensors::{read_tensors, write_tensors, Tensor, Tensors};
use std::path::Path;

//{stages}

type Stage = fn(&Json, &Tensors, &Tensors, &Tensors) -> Option<Tensors>;

/// Each stage, and the beginnings of the names of its results. A stage is skipped if the case has no such names.
const STAGES: &[(&str, Stage, &[&str])] = &[
//{table}
];

/// Runs every stage in order, and returns the results with names of the case.
fn run(folder: &Path) -> Tensors {
    let text = std::fs::read_to_string(folder.join("case.json")).expect("case.json");
    let about = Json::parse(&text);
    let read = |part: &str| read_tensors(&folder.join(format!("{part}.safetensors")));
    let (weights, inputs, mut before) = (read("weights"), read("inputs"), read("expected"));
    let names: Vec<&str> = about.get("tensors").list().iter().filter_map(|entry| entry.get("name").text()).collect();
    let single: &[(&str, Stage, &[&str])] = &[("operations", operations, &[""])];
    let mut outputs = Tensors::new();
    for (title, stage, begins) in if about.get("kind").text() == Some("ops") { single } else { STAGES } {
        if !names.iter().any(|name| begins.iter().any(|begin| name.starts_with(begin))) {
            continue;
        }
        let result = stage(about.get("config"), &weights, &inputs, &before);
        println!("{title:16}{}", if result.is_some() { "run" } else { "not written" });
        for (name, tensor) in result.unwrap_or_default() {
            if names.contains(&name.trim_end_matches(".mask").trim_end_matches(".lengths")) {
                outputs.insert(name.clone(), tensor.clone());
            }
            before.insert(name, tensor);
        }
    }
    outputs
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 3 {
        eprintln!("usage: implementation CASE_DIR OUT.safetensors");
        std::process::exit(2);
    }
    write_tensors(Path::new(&arguments[2]), &run(Path::new(&arguments[1])));
}
