//! The project's tasks; `cargo xtask help` lists them.

use clap::Parser;

mod bench;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod gpu_kit;
mod system;
mod test;
mod workloads;

/// The project's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Learns, proves and prints the inference workload's profile on this machine.
    Demo(demo::Options),
    /// Runs every test that this machine can run.
    Test(test::Options),
    /// Measures, and prints tables.
    Bench(bench::Options),
    /// Builds the BPF objects anew, or checks the ones that are checked in.
    Ebpf(ebpf::Options),
    /// Makes the worked workloads, and learns their profiles again.
    Workloads(workloads::Options),
    /// Builds the static binary and the image archive.
    Dist(dist::Options),
    /// Gives everything that is read to a fuzzer.
    Fuzz(fuzz::Options),
    /// Makes a folder that records, confines and measures the LLM service on any GPU host.
    GpuKit(gpu_kit::Options),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Ebpf(options) => ebpf::run(&options),
        Task::Workloads(options) => workloads::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::GpuKit(options) => gpu_kit::run(&options),
    }
}
