"""Tests the gate by its OpenAPI document: what the document allows is accepted, what it forbids is refused, every answer is one
that it describes, and nothing that comes in is an error of the server.

    api.py [--seed N] [--examples N] [--work FOLDER]

Builds and runs the gate (tests/examples/gate.rs), and schemathesis, which must be installed beside this Python.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import urllib.request

# The configuration sets of the gate's policy: with any other name, nearly all requests would be answered with 404.
SETS = ["news", "receipts"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=150, help="requests for each operation and kind")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("target/tools/api"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.work = arguments.work.resolve()
    here = pathlib.Path(__file__).resolve().parent

    # The whole workspace, so that its crates are built as for the tests.
    build = ["cargo", "build", "--quiet", "--workspace", "--locked", "--profile", "test", "--example", "gate"]
    subprocess.run(build, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    program = target / "debug" / "examples" / "gate"
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as gate:
        try:
            url = gate.stdout.readline().strip()
            if not url:
                print("the gate did not start", file=sys.stderr)
                return 1
            with urllib.request.urlopen(f"{url}/v1/openapi.json") as answer:
                document = json.load(answer)
            # The example has no signatures; those are checked by AWS before the gate is called.
            del document["security"]
            schemas = document["components"]["schemas"]
            schemas["OfThePolicy"] = {**schemas["ConfigurationSet"], "enum": SETS}
            of_the_policy = {"$ref": "#/components/schemas/OfThePolicy"}
            for request in ("PermitsRequest", "ReturnRequest"):
                schemas[request]["properties"]["configurationSet"] = of_the_policy
            document["paths"]["/v1/quotas"]["get"]["parameters"][0]["schema"] = of_the_policy
            schema = arguments.work / "openapi.json"
            schema.write_text(json.dumps(document))
            return subprocess.run(
                [
                    pathlib.Path(sys.executable).absolute().with_name("schemathesis"),
                    f"--config-file={here / 'schemathesis.toml'}",
                    "run",
                    schema,
                    f"--url={url}",
                    "--phases=examples,coverage,fuzzing",
                    "--checks=all",
                    f"--seed={arguments.seed}",
                    f"--max-examples={arguments.examples}",
                    "--generation-database=none",
                    "--warnings=off",
                ],
                env=os.environ | {"SCHEMATHESIS_HOOKS": "api_hooks", "PYTHONPATH": str(here)},
                cwd=arguments.work,
                check=False,
            ).returncode
        finally:
            gate.stdin.close()


if __name__ == "__main__":
    sys.exit(main())
