"""Compare Kennel's server with others: same model, picture, cores and load, all of them in turn in one run.

    make bench-serve
    python -m tests.benchmarks.bench_serve --quick
    python -m tests.benchmarks.bench_serve --peers flask,litserve,mlserver,bentoml --networks resnet18

The peers are installed from PyPI into environments of their own, below build/peers. Each has as many worker processes
as there are cores, and the load generator, that of `kennel bench-endpoint`, works on the same cores. Every figure is
the median of the rounds. CPU time is that of all of a server's processes, over all requests of a load.
"""

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kennel.atomic import write_json
from kennel.machine import available_cores, cpu_instructions
from kennel_cli.load.bodies import photo
from kennel_cli.load.generator import Budget, Generator, Load
from kennel_cli.load.summary import summarize
from kennel_cli.load.targets import HttpTarget
from tests.benchmarks.serving.bare import Floor, measure_floor
from tests.benchmarks.serving.models import ENGINES, Model, make_model
from tests.benchmarks.serving.servers import ROOT, Running, Server, ServerFailed, kennel_servers, peers, started

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
CLIENTS = 16
FIRST = 1.0  # seconds in which a server meets its first requests; nothing of it counts
WARM_UP = 2.0  # seconds of a load before it is measured; their CPU time and their requests both count
RAW = ROOT / "build" / "bench-serve.json"


@dataclass(frozen=True)
class Figures:
    """What one round, or the median of several, says of a server. Milliseconds but for the first and the last two."""

    throughput: float  # requests a second of 16 clients
    p50: float
    p99: float
    cpu: float  # of cores, a request of 16 clients
    p50_alone: float  # of one client
    cpu_alone: float
    errors: float
    seconds_to_ready: float
    megabytes: float


def main() -> None:
    """Measure each network, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="flask,litserve", help=f"of {', '.join(peers())} (%(default)s)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="of Kennel (%(default)s)")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round, three seconds, ResNet-18")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds, given.networks = 1, 3.0, NETWORKS[0]
    chosen = _chosen("peer", given.peers, peers())
    engines = _chosen("engine", given.engines, ENGINES)
    networks = _chosen("network", given.networks, NETWORKS)
    print(f"{available_cores()} cores ({', '.join(cpu_instructions()) or 'no short numbers'})", flush=True)
    raw = {}
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:
        picture = Path(folder) / "photo.jpg"
        picture.write_bytes(photo())
        for network in networks:
            _say(f"{network}: exporting")
            model = make_model(network, Path(folder))
            servers = [peers()[name] for name in chosen]
            servers += [server for server in kennel_servers(model) if server.name in engines]
            rounds, floors = measure(model, servers, engines, picture, given.rounds, given.seconds)
            print(f"\n### {network}\n")
            print_servers(servers, rounds)
            print()
            print_floors(engines, rounds, floors)
            sys.stdout.flush()
            raw[network] = {
                "servers": {name: [asdict(figures) for figures in found] for name, found in rounds.items()},
                "floors": {f"{name}, {count}": [asdict(f) for f in found] for (name, count), found in floors.items()},
            }
    write_json(RAW, raw)


def measure(
    model: Model, servers: Sequence[Server], engines: Sequence[str], picture: Path, rounds: int, seconds: float
) -> tuple[dict[str, list[Figures]], dict[tuple[str, int], list[Floor]]]:
    """Return the figures of each server by its name, and the floors by engine and processes, one a round."""
    found: defaultdict[str, list[Figures]] = defaultdict(list)
    floors: defaultdict[tuple[str, int], list[Floor]] = defaultdict(list)
    for number in range(rounds):
        turn = number % len(servers)  # so that none is always first
        for server in (*servers[turn:], *servers[:turn]):
            try:
                with (
                    tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder,
                    started(server, model, picture.read_bytes(), Path(folder)) as running,
                ):
                    figures = measure_server(running, seconds)
            except ServerFailed as error:  # the others can be measured all the same
                _say(str(error))
                continue
            found[server.name].append(figures)
            line = " ".join(f"{name}={value:.1f};" for name, value in asdict(figures).items())
            _say(f"{model.network} round={number + 1}/{rounds} {server.name}: {line}")
        for engine in engines:
            for processes in dict.fromkeys((1, available_cores())):
                floor = measure_floor(model.folder, engine, processes, seconds / 2, picture)
                floors[engine, processes].append(floor)
                line = " ".join(f"{name}={value:.1f};" for name, value in asdict(floor).items())
                _say(f"{model.network} round={number + 1}/{rounds} bare {engine}, {processes} processes: {line}")
    return found, floors


def measure_server(running: Running, seconds: float) -> Figures:
    """Ask a server with 16 clients, and with one."""
    crowd, cpu = measure_load(running, CLIENTS, seconds)
    megabytes = running.tree.memory() / 1e6
    alone, cpu_alone = measure_load(running, 1, seconds / 2)
    return Figures(
        throughput=crowd.throughput,
        p50=crowd.p50,
        p99=crowd.p99,
        cpu=cpu,
        p50_alone=alone.p50,
        cpu_alone=cpu_alone,
        errors=sum(crowd.errors.values()) + sum(alone.errors.values()),
        seconds_to_ready=running.seconds_to_ready,
        megabytes=megabytes,
    )


def measure_load(running: Running, clients: int, seconds: float):
    """Return how a load went, and the CPU milliseconds that the server took for a request of it."""
    target = HttpTarget(running.url, "", 60.0)
    payloads = [target.encode(running.body)]

    def send(load: Load):
        return Generator(target, payloads, load, Budget(10**9)).run(lambda done: None)

    send(Load(clients, None, FIRST, 0.0))
    load = Load(clients, None, seconds, WARM_UP)
    before = running.tree.cpu_seconds()
    outcome = send(load)
    spent = running.tree.cpu_seconds() - before
    return summarize(load, outcome), 1e3 * spent / max(1, len(outcome.samples))


def print_servers(servers: Sequence[Server], rounds: dict[str, list[Figures]]) -> None:
    """Print the table of the servers; ratios are of medians."""
    against = middle(rounds["litserve"]).throughput if "litserve" in rounds else 0.0
    print(f"| server | requests/s, {CLIENTS} clients | × LitServe | p50, ms | p99, ms | CPU ms a request ", end="")
    print("| p50 of one client, ms | memory, MB | s to the first answer |\n|" + "---|" * 9)
    for server in servers:
        if not rounds.get(server.name):
            print(f"| {server.title}: did not come up {'| ' * 9}|")
            continue
        found = middle(rounds[server.name])
        ratio = f"{found.throughput / against:.2f}" if against else ""
        name = f"{server.title} ({found.errors:.0f} errors)" if found.errors else server.title
        cells = (
            *(f"{found.throughput:.1f}", ratio, f"{found.p50:.0f}", f"{found.p99:.0f}", f"{found.cpu:.1f}"),
            *(f"{found.p50_alone:.1f}", f"{found.megabytes:.0f}", f"{found.seconds_to_ready:.1f}"),
        )
        print(f"| {name} | {' | '.join(cells)} |")


def print_floors(
    engines: Sequence[str], rounds: dict[str, list[Figures]], floors: dict[tuple[str, int], list[Floor]]
) -> None:
    """Print what HTTP, batches and queues add to decoding a picture and running the network."""
    most = available_cores()
    print(
        "| decode + forward, no HTTP | pictures/s | CPU ms | p50, ms | CPU over HTTP ÷ bare | one client's p50 ÷ bare |"
    )
    print("|" + "---|" * 6)
    for engine in engines:
        served = middle(rounds[engine]) if rounds.get(engine) else None
        for processes in dict.fromkeys((1, most)):
            floor = middle(floors[engine, processes])
            what = "one process" if processes == 1 else f"{processes} processes at once"
            cpu = f"{served.cpu / floor.cpu:.2f}" if served and processes == most else ""
            p50 = f"{served.p50_alone / floor.p50:.2f}" if served and processes == 1 else ""
            figures = f"{floor.throughput:.1f} | {floor.cpu:.1f} | {floor.p50:.1f} | {cpu} | {p50}"
            print(f"| {engine}, {what} | {figures} |")


def middle(rounds):
    """Return the median of each figure."""
    values = [asdict(figures) for figures in rounds]
    return type(rounds[0])(**{name: statistics.median(value[name] for value in values) for name in values[0]})


def _chosen(kind: str, given: str, known) -> list[str]:
    names = [name for name in given.split(",") if name]
    if wrong := [name for name in names if name not in known]:
        sys.exit(f"there is no {kind} {wrong[0]!r}; there are {', '.join(known)}")
    return names


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
