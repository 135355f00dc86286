"""Several hosts on one machine: a round submitted from one runs on all; and what a node more gains.

sudo python benchmarks/nodes.py [--nodes 2] [--scaling 1 2 4] [--scans 24] [--seconds-a-window 0.3]

Each node is a real `ray start` in a network namespace of its own, with an address, a private mount of Ray's
folder and the cluster's token; the namespaces meet at a bridge, where an S3 server (moto's) listens. First
round os1, at the tests' tiny scale, is submitted by `ray job submit` on the head, its store on that S3:
printed is which kinds of Ray process were seen on which node, and the digest beside that of the same round
on this machine alone with a store in a folder. Then phantoms go through the prediction pipeline on 1, 2, 4
nodes, each with one simulated device that takes so many seconds a window and uses no core, as in
benchmarks/pipeline.py. `efficiency` is the time on one node over n times that on n, from the first scan that
a device gets to the last it gives back; `whole` counts the start of the actors, too.

Needs root, `ip` with namespaces, `unshare`, and nobody else on 10.231.0.0/24. Nodes share the machine's cores
and disk, so what is shown is that the work is shared out, not what a network costs.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]  # no installation is needed

from pipeline import Device, fill, pass_through, phantom  # noqa: E402
from road import clean_environment, end_session, ended, job, round_job, write_settings  # noqa: E402
from s3 import BUCKET, KEYS, SERVER  # noqa: E402

from pwsseg.pipelines.over_cases import Item  # noqa: E402
from pwsseg.rounds import load_round  # noqa: E402
from pwsseg.store import Store  # noqa: E402

NET = "10.231.0"
BRIDGE = "pwsbr"
RAY = str(Path(sys.executable).with_name("ray"))
PRIVATE = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
"""A node must not find the head's folder under the same name: it would delete what jobs work in."""


class Node(NamedTuple):
    """One host: a network namespace."""

    number: int

    @property
    def name(self) -> str:
        """Of the namespace."""
        return f"pws{self.number}"

    @property
    def address(self) -> str:
        """On the bridge."""
        return f"{NET}.{10 + self.number}"

    def within(self, *command: str) -> list[str]:
        """A command as one runs it on this host."""
        return ["ip", "netns", "exec", self.name, *command]


class Hosts(NamedTuple):
    """A cluster over several hosts, the first of which is its head."""

    nodes: list[Node]
    environment: dict[str, str]

    def on_head(self, *command: str, **variables: str) -> str:
        """Run a command on the head to its end; what it said."""
        done = ended(self.nodes[0].within(*command), self.environment | variables)
        return done.expect(0).said


def main() -> None:
    """Print the two tables and the line of figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=2, help="nodes that the round runs on; 0: no round")
    parser.add_argument("--scaling", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--seconds-a-window", type=float, default=0.3)
    parser.add_argument("--once", nargs=2, metavar=("STORE", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(corpus(given.once[0], float(given.once[1]))))
        return
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        raise SystemExit("network namespaces need root, and the commands ip and unshare; run it with sudo")
    with tempfile.TemporaryDirectory(prefix="pws") as folder, bridge():
        figures = submitted(Path(folder), given.nodes) if given.nodes else {}
        figures |= scaling(Path(folder), given.scaling, given.scans, given.seconds_a_window)
    print(json.dumps(figures))


# hosts


@contextmanager
def bridge() -> Iterator[None]:
    """Where the hosts meet; this machine is .1 there."""
    forget("ip", "link", "del", BRIDGE)
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        run("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        yield
    finally:
        run("ip", "link", "del", BRIDGE)


@contextmanager
def host(number: int) -> Iterator[Node]:
    """A namespace on the bridge."""
    node, outside = Node(number), f"pws{number}-out"
    leave(node, outside)
    run("ip", "netns", "add", node.name)
    try:
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", node.name)
        run("ip", "link", "set", outside, "master", BRIDGE, "up")
        for command in (f"addr add {node.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", node.name, *command.split())
        yield node
    finally:
        leave(node, outside)


def leave(node: Node, outside: str) -> None:
    """The link goes first: a namespace is only gone when its last process is."""
    forget("ip", "link", "del", outside)
    forget("ip", "netns", "del", node.name)


@contextmanager
def hosts(
    folder: Path, count: int, *, gpus: int = 0, variables: dict[str, str] | None = None
) -> Iterator[Hosts]:
    """A cluster of `count` real nodes with two CPUs each and a token of its own."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(host(n)) for n in range(count)]
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp")))
        token = folder / f"token-{secrets.token_hex(4)}"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        environment = clean_environment() | (variables or {})
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        environment |= {"GLOO_SOCKET_IFNAME": "eth0", "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}"}
        for node in nodes:
            stack.enter_context(started(node, nodes[0], place, environment, gpus))
        yield Hosts(nodes, environment)


@contextmanager
def started(node: Node, head: Node, place: Path, environment: dict[str, str], gpus: int) -> Iterator[None]:
    """`ray start` on a host, ended with all its processes."""
    size = ["--num-cpus", "2", "--num-gpus", str(gpus), "--object-store-memory", "300000000"]
    size += ["--node-ip-address", node.address, "--disable-usage-stats", "--block"]
    if node == head:
        command = [RAY, "start", "--head", "--port", "6379", "--temp-dir", str(place), *size]
    else:
        private = ["unshare", "--mount", "sh", "-c", PRIVATE, str(place)]
        command = [*private, RAY, "start", "--address", f"{head.address}:6379", *size]
    log = Path(f"{environment['RAY_AUTH_TOKEN_PATH']}.{node.number}.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            node.within(*command),
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"ray does not start on {node.name}:\n{log.read_text()}")
            time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()
        end_session(process.pid)


def run(*command: str) -> None:
    """A command of the system, which must end well."""
    subprocess.run(command, check=True)


def forget(*command: str) -> None:
    """Remove what a run that was killed may have left."""
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


# the submitted round


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """An S3 server on the bridge, which does one request at a time: what leads a process there."""
    code = SERVER.replace('"127.0.0.1"', f'"{NET}.1"').replace("threaded=True", "threaded=False")
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    try:
        url = f"http://{NET}.1:{int(server.stdout.readline())}"
        with urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")):
            pass
        yield KEYS | {"AWS_ENDPOINT_URL": url}
    finally:
        server.kill()
        server.wait()


def submitted(folder: Path, count: int) -> dict[str, object]:
    """Round os1 as a job on `count` nodes, into a store on S3; beside it the same on this machine alone."""
    corpus_of, settings = folder / "corpus", write_settings(folder / "settings")
    counts = ("--organs", 2, "--five-organs", 1, "--unannotated", 4, "--validation", 1)
    job("phantom", "--out", corpus_of, *counts).expect(0)
    files = ("--images", corpus_of, "--annotated", corpus_of / "annotated.csv")
    job("ingest", "--store", folder / "alone", *files).expect(0)
    round_job("os1", settings, folder / "alone").expect(0)
    wanted = Store.open(folder / "alone").layer("os1").digest
    with bucket() as variables:
        place = f"s3://{BUCKET}/store"
        job("ingest", "--store", place, *files, environment=variables).expect(0)
        variables["PWSSEG_SCRATCH"] = str(folder / "scratch")
        with hosts(folder, count, variables=variables) as there:
            began = time.perf_counter()
            seen = watched(there, settings, place)
            seconds = time.perf_counter() - began
        os.environ |= variables
        digest = Store.open(place).layer("os1").digest
    print(f"round os1, submitted on {there.nodes[0].name}, store on S3: {seconds:.0f} s")
    for node in there.nodes:
        print(f"  {node.name} {node.address:<12} {', '.join(sorted(seen[node.name]))}")
    print(f"  digest {digest[:12]}, on one machine with a folder {wanted[:12]}")
    return {"nodes": count, "nodes_at_work": sum(map(bool, seen.values())), "same_digest": digest == wanted}


def watched(there: Hosts, settings: Path, place: str) -> dict[str, set[str]]:
    """Submit the round and look which of Ray's processes are at work in which namespace."""
    begin = [RAY, "job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", ".", "--"]
    round_of = ["python", "jobs/round.py", "--round", "os1", "--scale", "tiny"]
    submit = there.nodes[0].within(*begin, *round_of, "--settings", str(settings), "--store", place)
    seen: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            submit, cwd=ROOT, env=there.environment, stdout=said, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            for name, kind in at_work(
                {Path(f"/run/netns/{n.name}").stat().st_ino: n.name for n in there.nodes}
            ):
                seen[name].add(kind)
            time.sleep(0.1)
        said.seek(0)
        if process.returncode:
            raise SystemExit(said.read())
    return seen


def at_work(names: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Namespace and kind of every worker process of Ray that computes."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                title = (process / "cmdline").read_text().split("\0")[0]
                space = (process / "ns" / "net").stat().st_ino
            except OSError:
                continue
            kind = title.removeprefix("ray::").partition("(")[0].partition(".")[0]
            if (
                title.startswith("ray::")
                and kind in ("MapBatches", "MapWorker", "RayTrainWorker")
                and space in names
            ):
                yield names[space], kind


# scaling


def scaling(folder: Path, counts: list[int], scans: int, seconds_a_window: float) -> dict[str, object]:
    """The same corpus on more and more nodes."""
    if not counts:
        return {}
    settings = load_round("ots2", "flare23", folder=ROOT / "jobs")
    fill(folder / "corpus-store", settings, scans, [phantom(0)])
    print(f"{scans} scans, one simulated device a node, {seconds_a_window} s a window")
    print(f"{'nodes':>6}{'seconds':>9}{'whole':>8}{'idle':>8}{'efficiency':>12}  scans a node")
    runs = {}
    for count in counts:
        with hosts(folder, count, gpus=1) as there:
            once = ("--once", str(folder / "corpus-store"), str(seconds_a_window))
            head = f"{there.nodes[0].address}:6379"
            said = there.on_head(sys.executable, __file__, *once, RAY_ADDRESS=head)
        runs[count] = r = json.loads(said.splitlines()[-1])
        gain = runs[counts[0]]["seconds"] * counts[0] / (count * r["seconds"])
        shares = " ".join(str(n) for n in sorted(r["scans"].values(), reverse=True))
        print(
            f"{count:6}{r['seconds']:9.1f}{r['whole']:8.1f}{r['idle']:8.1%}{gain:12.2f}  {shares}", flush=True
        )
    first, last = counts[0], counts[-1]
    efficiency = runs[first]["seconds"] * first / (last * runs[last]["seconds"])
    return {"scaling_nodes": last, "efficiency": round(efficiency, 3)}


class NodesDevice(Device):
    """A simulated device that says on which node it is."""

    def __call__(self, item: Item) -> Item:
        """Labels, after the time that they take, and the node."""
        import ray

        item = super().__call__(item)
        item.fields["seconds"]["node"] = float(ray.util.get_node_ip_address().rpartition(".")[2])
        return item


def corpus(location: str, seconds_a_window: float) -> dict[str, object]:
    """The corpus through the round's own pipeline on the cluster that this process is led to."""
    settings = load_round("ots2", "flare23", folder=ROOT / "jobs")
    passage = pass_through(Store.open(location), settings, NodesDevice, seconds_a_window)
    nodes = [int(i.fields["seconds"]["node"]) for i in passage.items]
    return {
        "seconds": passage.seconds,
        "whole": passage.whole,
        "idle": passage.idle,
        "scans": {str(n): nodes.count(n) for n in sorted(set(nodes))},
    }


if __name__ == "__main__":
    main()
