#!/usr/bin/env python3
"""What run.sh does: the GPU workload of this kit recorded, confined and measured, within a budget of time.

doctor, model, health without a profile, recording, synthesis, the same under the profile with the health check,
throughput in turns (plain, recorded, confined), and, where time is left, the whole of `seccomp-learn learn`. Every
step is bounded; one that failed or was left out says why in report.md and summary.json. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KIT = pathlib.Path(__file__).resolve().parent
WORKLOAD = "workloads/nim-llm"
# Kept back for the last step's end and the report.
RESERVE = 8.0
# What PyTorch sees, asked in a process of its own: this one must not open the GPU.
ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda,
                  "gpu": torch.cuda.get_device_name() if cuda else None}))
"""
# Exit codes, as seccomp-learn has them.
YES, NO, FAILED, EVIDENCE = 0, 1, 2, 3


class Problem(Exception):
    """A step that did not end well, and why."""


class NoTime(Exception):
    """A step that was not begun, or not finished, because the budget is used up."""


@dataclass
class Step:
    """One line of the report."""

    name: str
    state: str
    seconds: float
    note: str


@dataclass
class Done:
    """How a command ended."""

    code: int
    output: str
    errors: str

    def last_line(self) -> str:
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


@dataclass
class Kit:
    """The run: options, what was found so far, and how it went."""

    options: argparse.Namespace
    output: pathlib.Path
    begun: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    host: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    backend: str | None = None
    denials: list[str] = field(default_factory=list)
    healthy: bool | None = None
    learned: bool | None = None
    rates: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in VARIANTS})

    def __post_init__(self) -> None:
        self.python = command_python()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = self.output / "nim-llm"
        self.profile = self.folder / "profile.json"
        # The service is told by its environment, as NIM is; the environment is never recorded.
        self.environment = os.environ | {
            "NIM_SERVER_PORT": str(self.port), "NIM_CACHE_PATH": str(self.output / "model"), "NIM_LOG_LEVEL": "WARNING",
        }
        self.server = [self.python, "-B", f"{WORKLOAD}/server.py"]
        self.program = str(runnable(KIT / "bin/seccomp-learn", self.output))

    # Time.

    def left(self) -> float:
        return self.options.budget - (time.monotonic() - self.begun) - RESERVE

    def step(self, name: str, least: float, action: Callable[[], str]) -> bool:
        """Runs a step if at least so many seconds are left; whether it ended well."""
        begun = time.monotonic()
        try:
            if self.left() < least:
                raise NoTime(f"{max(self.left(), 0):.0f} s are left, it needs {least:.0f} s")
            state, note = "ok", action()
        except NoTime as why:
            state, note = "skipped", str(why)
        except (Problem, OSError, ValueError, KeyError) as error:
            state, note = "failed", str(error) if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
        self.steps.append(Step(name, state, round(time.monotonic() - begun, 1), note))
        print(f"{name:28} {state:8} {self.steps[-1].seconds:6.1f} s  {note}", flush=True)
        return state == "ok"

    # Commands.

    def run(self, command: list[str], bound: float) -> Done:
        """Runs a command in the kit's folder, at most so many seconds; everything it says goes to the log too."""
        bound = min(bound, self.left())
        if bound <= 0:
            raise NoTime("the budget is used up")
        process = subprocess.Popen(command, cwd=KIT, env=self.environment, stdin=subprocess.DEVNULL, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            output, errors = process.communicate(timeout=bound)
        except subprocess.TimeoutExpired:
            output, errors = end(process)
            self.log(command, Done(-1, output, errors))
            raise NoTime(f"`{pathlib.Path(command[0]).name} {command[1]}` was stopped after {bound:.0f} s") from None
        done = Done(process.returncode, output, errors)
        self.log(command, done)
        return done

    def log(self, command: list[str], done: Done) -> None:
        with (self.output / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ {shlex.join(command)}\n{done.output[-20000:]}{done.errors[-20000:]}[{done.code}]\n\n")

    def client(self, action: str, judged: bool = True) -> str:
        """A call of the client, for the shell; `judged`: only answers from the right device count."""
        device = f" --device {self.device}" if judged else ""
        return f"{shlex.quote(self.python)} -B {WORKLOAD}/client.py {self.url} {action}{device}"

    def load(self, figures: pathlib.Path) -> str:
        return self.client(f"load --seconds {self.options.load_seconds} --output {shlex.quote(str(figures))}")

    def life(self, exercise: str, bound: float) -> list[str]:
        """How seccomp-learn drives the service."""
        bound = max(min(bound, self.left() - 5), 1)
        return ["--ready", self.client("ready", judged=False), "--ready-timeout", f"{bound:.0f}s",
                "--exercise", exercise, "--duration", f"{bound:.0f}s"]

    # Steps.

    def prepare(self) -> None:
        """A workload's folder, so that the profile is tested with its evidence and `learn` goes on with the traces."""
        (self.folder / "traces").mkdir(parents=True, exist_ok=True)
        words = ", ".join(map(json.dumps, self.server))
        (self.folder / "workload.toml").write_text(f"[target]\ncommand = [{words}]\n", encoding="utf-8")

    def look(self) -> str:
        """What the host is, and where the service has to compute."""
        self.host = {
            "kernel": platform.release(), "architecture": platform.machine(), "processors": os.cpu_count(),
            "root": os.geteuid() == 0, "python": platform.python_version(), "driver": driver(),
            "torch": None, "cuda": None, "gpu": None,
        }
        torch = self.run([self.python, "-c", ASK_TORCH], 90)
        if torch.code == 0:
            self.host |= json.loads(torch.output.strip().splitlines()[-1])
        if self.options.device != "auto":
            self.device = self.options.device
        elif self.host["gpu"]:
            self.device = "cuda"
        if self.device == "cuda" and not self.host["gpu"]:
            raise Problem(f"PyTorch sees no GPU: {torch.last_line()}")
        if self.host["driver"] and not self.host["gpu"]:
            return f"{self.device}; the driver {self.host['driver']} is loaded, but PyTorch sees no GPU"
        return f"{self.device}: {self.host['gpu'] or 'no GPU'}, PyTorch {self.host['torch']}"

    def doctor(self) -> str:
        done = self.run([self.program, "doctor"], 30)
        (self.output / "doctor.txt").write_text(done.output, encoding="utf-8")
        return f"exit code {done.code}; see doctor.txt"

    def make_model(self) -> str:
        done = self.run([self.python, "-B", f"{WORKLOAD}/make_model.py", self.environment["NIM_CACHE_PATH"]], 120)
        if done.code:
            raise Problem(done.last_line())
        return done.output.strip().rpartition(": ")[2]

    def serve(self, call: str, bound: float) -> None:
        """The service without a recorder and without a profile, driven by one call of the client."""
        end_at = time.monotonic() + min(bound, self.left())
        log = (self.output / "log.txt").open("a", encoding="utf-8")
        with log, subprocess.Popen(self.server, cwd=KIT, env=self.environment, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, start_new_session=True) as process:
            try:
                while self.run(["/bin/sh", "-c", self.client("ready", judged=False)], 30).code:
                    if process.poll() is not None or time.monotonic() > end_at:
                        raise Problem("the service did not become ready; see log.txt")
                    time.sleep(0.2)
                done = self.run(["/bin/sh", "-c", call], end_at - time.monotonic())
                if done.code:
                    raise Problem(done.last_line())
                process.terminate()
                if process.wait(timeout=30):
                    raise Problem(f"the service ended with {process.returncode} on SIGTERM")
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def baseline(self) -> str:
        self.serve(self.client("health"), 120)
        return f"answers are right, computed on {self.device}"

    def record(self) -> str:
        """One recording; by `ebpf`, and by `notify` where BPF is refused."""
        number = len(list((self.folder / "traces").iterdir())) + 1
        trace = self.folder / f"traces/run-{number:03}.json"
        refused = ""
        for backend in [self.backend] if self.backend else self.options.backends:
            done = self.record_with(backend, trace, self.client("exercise"), 120)
            if trace.exists() and done.code in (YES, EVIDENCE):
                self.backend = backend
                return f"{backend}, {summary_of(trace)}{refused}"
            refused += f"; {backend} refused: {done.last_line()}"
        raise Problem(refused.removeprefix("; "))

    def record_with(self, backend: str | None, trace: pathlib.Path, exercise: str, bound: float) -> Done:
        command = [self.program, "record", "--quiet", "--backend", backend or "auto", "-o", str(trace)]
        return self.run([*command, *self.life(exercise, bound), "--", *self.server], bound + 20)

    def synthesize(self) -> str:
        traces = sorted(str(path) for path in (self.folder / "traces").iterdir())
        done = self.run([self.program, "synth", *traces, "-o", str(self.profile)], 60)
        if not self.profile.exists():
            raise Problem(done.last_line())
        return f"exit code {done.code}, {summary_of_profile(self.profile)}"

    def confined(self, exercise: str, health: list[str], bound: float) -> list[dict[str, Any]]:
        """One start under the profile; what `test --json` says about it."""
        command = [self.program, "test", str(self.folder), "--json", "--no-plain", *health]
        done = self.run([*command, *self.life(exercise, bound), "--", *self.server], bound + 20)
        lines = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
        if not any(line.get("type") == "result" for line in lines):
            raise Problem(done.last_line())
        return lines

    def prove(self) -> str:
        health = ["--health-cmd", self.client("health")]
        lines = self.confined(self.client("exercise"), health, 120)
        self.denials = [f"{line['call']} = {line['verdict']}, {line['count']} times, {line['comm']}"
                        for line in lines if line.get("type") == "denial"]
        result = next(line for line in lines if line.get("type") == "result")
        self.healthy = result["unwell"] == 0
        if self.denials or not self.healthy:
            raise Problem(f"{len(self.denials)} denials, health {'green' if self.healthy else 'red'}")
        return f"0 denials, health green: every answer right, computed on {self.device}"

    def compare(self) -> str:
        """Tokens a second in turns, each variant first once; as many rounds as asked for and as fit."""
        rounds = 0
        for turn in range(self.options.rounds):
            begun = time.monotonic()
            for name in list(VARIANTS)[turn % 3 :] + list(VARIANTS)[: turn % 3]:
                figures = self.output / "figures.json"
                figures.unlink(missing_ok=True)
                try:
                    VARIANTS[name](self, self.load(figures))
                    self.rates[name].append(json.loads(figures.read_text(encoding="utf-8"))["tokens_per_second"])
                except FileNotFoundError:
                    raise Problem(f"no figures from the {name} service; see log.txt") from None
                finally:
                    figures.unlink(missing_ok=True)
            rounds = turn + 1
            if self.left() < 1.2 * (time.monotonic() - begun):
                break
        return f"{rounds} of {self.options.rounds} rounds of {self.options.load_seconds:g} s each"

    def load_recorded(self, call: str) -> None:
        done = self.record_with(self.backend, self.output / "model/load-trace.json", call, 90)
        if done.code not in (YES, EVIDENCE):
            raise Problem(f"recording under load: {done.last_line()}")

    def learn(self) -> str:
        """The whole job in one command, with the traces that are there: proof and report in the folder."""
        command = [self.program, "learn", "--quiet", "--backend", self.backend or "auto", "--runs", "1",
                   "-o", str(self.folder), "--health-cmd", self.client("health")]
        life = self.life(self.client("exercise"), self.left())
        done = self.run([*command, *life, "--", *self.server], self.left())
        self.learned = done.code == YES
        if not self.learned:
            raise Problem(f"exit code {done.code}; see nim-llm/report.md and log.txt")
        return "proved; see nim-llm/report.md"

    # The whole.

    def go(self) -> int:
        self.prepare()
        self.step("doctor", 5, self.doctor)
        ready = (
            self.step("host", 5, self.look)
            and self.step("model", 10, self.make_model)
            and self.step("health without profile", 10, self.baseline)
        )
        begun = time.monotonic()
        if ready and self.step("record 1", 15, self.record):
            once = time.monotonic() - begun
            for number in range(2, self.options.recordings + 1):
                self.step(f"record {number}", 2 * once, self.record)
            if self.step("synthesize", 5, self.synthesize):
                self.step("health under the profile", 1.2 * once, self.prove)
                self.step("throughput", 3 * (once + self.options.load_seconds), self.compare)
            if self.options.learn:
                # A recording, a start that names what would be refused, an enforced one and a plain one.
                self.step("learn", 4.5 * once + 5, self.learn)
        # The folder of the model holds nothing that a seed and questions.txt do not say.
        shutil.rmtree(self.output / "model", ignore_errors=True)
        good = not self.denials and self.healthy is True and self.learned is not False
        self.write(good)
        return YES if good else NO if self.healthy is not None else FAILED

    def write(self, good: bool) -> None:
        facts = sorted((self.folder / "traces").iterdir())
        requests = device_requests(facts)
        summary = {
            "version": 1, "good": good, "device": self.device, "backend": self.backend, "host": self.host,
            "seconds": round(time.monotonic() - self.begun, 1), "budget": self.options.budget,
            "steps": [vars(step) for step in self.steps], "healthy": self.healthy, "denials": self.denials,
            "learned": self.learned, "throughput": {"tokens_per_second": self.rates} | ratios(self.rates),
            "traces": [path.name for path in facts], "device_requests": requests,
        }
        (self.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        (self.output / "report.md").write_text(report(summary), encoding="utf-8")


# How the service runs while it is under load.
VARIANTS: dict[str, Callable[[Kit, str], Any]] = {
    "plain": lambda kit, call: kit.serve(call, 90),
    "recorded": lambda kit, call: kit.load_recorded(call),
    "confined": lambda kit, call: kit.confined(call, [], 90),
}


def command_python() -> str:
    """This Python as one would type it, so that traces name no more of the host than they must."""
    found = shutil.which("python3")
    return "python3" if found and os.path.samefile(found, sys.executable) else sys.executable


def runnable(program: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
    """The program, or a copy that may be executed: some ways of carrying files lose that."""
    if os.access(program, os.X_OK):
        return program
    copy = output / "model" / program.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(program, copy)
    copy.chmod(0o755)
    return copy


def free_port() -> int:
    """Port 8000, where NIM listens, or one that is free."""
    for port in (8000, 0):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return one.getsockname()[1]
    raise SystemExit("kit.py: no free port on 127.0.0.1")


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends a command that took too long: politely, so that it takes its children along, then by force."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            return process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    return process.communicate()


def driver() -> str | None:
    """The version of the loaded NVIDIA driver."""
    try:
        words = pathlib.Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def summary_of(trace: pathlib.Path) -> str:
    value = json.loads(trace.read_text(encoding="utf-8"))
    gpu = value["target"].get("gpu")
    seen = {True: ", on a GPU", False: ", without a GPU"}.get(gpu, "")
    whole = "" if value["complete"] else ", incomplete"
    return f"{len(value['syscalls'])} syscalls, {sum(row['calls'] for row in value['syscalls'])} calls{seen}{whole}"


def summary_of_profile(profile: pathlib.Path) -> str:
    rules = json.loads(profile.read_text(encoding="utf-8"))["syscalls"]
    allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    return f"{len(allowed)} syscalls allowed by {len(rules)} rules"


def device_requests(traces: list[pathlib.Path]) -> dict[str, dict[str, int]]:
    """For each device file the distinct ioctl requests with their calls, over all traces."""
    found: dict[str, dict[str, int]] = {}
    for path in traces:
        for row in json.loads(path.read_text(encoding="utf-8"))["syscalls"]:
            values = (row.get("arguments") or {}).get("values", []) if row["name"] == "ioctl" else []
            for value in values:
                name = value.get("path") or value.get("device")
                if name and "device" in value:
                    calls = found.setdefault(name, {})
                    calls[value["request"]] = calls.get(value["request"], 0) + value["calls"]
    return {name: dict(sorted(calls.items())) for name, calls in sorted(found.items())}


def ratios(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and what recording and the profile cost: the median of the rounds' own ratios to plain."""
    middle = {name: statistics.median(rate) if rate else None for name, rate in rates.items()}
    result: dict[str, Any] = {"median": middle}
    for name in ("recorded", "confined"):
        pairs = [other / plain for plain, other in zip(rates["plain"], rates[name]) if plain]
        result[f"{name}_ratio"] = round(statistics.median(pairs), 4) if pairs else None
    return result


def report(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    host, rates = summary["host"], summary["throughput"]
    lines = ["# The GPU kit's report", ""]
    if summary["healthy"] is None:
        lines.append("The service never ran under its profile: see the steps.")
    else:
        health = "green" if summary["healthy"] else "RED"
        lines.append(f"Under its profile the service was refused {len(summary['denials'])} calls, health {health}, "
                     f"every answer computed on {summary['device']}." if summary["good"] else
                     f"NOT GOOD: {len(summary['denials'])} denials under the profile, health {health}.")
    lines += [f"- {denial}" for denial in summary["denials"]]
    lines += ["", f"Recorded by {summary['backend']}, on {summary['device']}; {summary['seconds']} s of "
              f"{summary['budget']:g} s.", "", "| host | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in host.items()]
    lines += ["", "| step | | seconds | |", "|---|---|---|---|"]
    lines += [f"| {one['name']} | {one['state']} | {one['seconds']} | {one['note'].replace('|', '/')} |"
              for one in summary["steps"]]
    lines += ["", "Throughput, tokens a second, in turns (the ratio is the median of the rounds' ratios to plain):", "",
              "| | rounds | median | ratio |", "|---|---|---|---|"]
    for name, rate in rates["tokens_per_second"].items():
        ratio = {"plain": 1.0}.get(name, rates.get(f"{name}_ratio"))
        every, middle = ", ".join(map(str, rate)), rates["median"][name]
        lines.append(f"| {name} | {every or '-'} | {middle or '-'} | {ratio or '-'} |")
    if summary["device_requests"]:
        lines += ["", "| device | ioctl requests | calls |", "|---|---|---|"]
        lines += [f"| {name} | {len(calls)} | {sum(calls.values())} |"
                  for name, calls in summary["device_requests"].items()]
    lines += ["", "`nim-llm/` holds the traces, the profile with its reasons and, where `learn` had the time, its own "
              "report. `log.txt` has what every command said."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("gpu-kit-results"),
                        help="where the results go; must not exist, or be empty")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds that all of it may take")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto",
                        help="where answers must be computed; `auto`: on the GPU if PyTorch sees one")
    parser.add_argument("--backends", nargs="+", choices=("ebpf", "notify"), default=["ebpf", "notify"],
                        help="ways to record, the first that works")
    parser.add_argument("--recordings", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the comparison")
    parser.add_argument("--load-seconds", type=float, default=6.0, help="how long the service is under load in each")
    parser.add_argument("--no-learn", dest="learn", action="store_false", help="leave out the last step")
    options = parser.parse_args()
    output = options.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        print(f"kit.py: `{output}` is not empty; name another folder with -o", file=sys.stderr)
        return FAILED
    code = Kit(options, output).go()
    print(f"wrote {output}")
    return code


if __name__ == "__main__":
    sys.exit(main())
