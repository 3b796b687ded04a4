#!/usr/bin/env python3
"""Checks the Terraform module in infra/terraform as far as that goes without the AWS provider.

    terraform.py --work DIR

Checks the format of all files. Then evaluates the variables and the parameters of the stack, which need no provider, with a package
whose functions are empty: with default values, with another value of each variable, and with values that must be refused. What only
the provider knows, the resources of main.tf, is checked for its syntax.

Exit codes: 0 success, 1 failed. Without a program `terraform` or `tofu` it says so and succeeds.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "infra" / "terraform"
FUNCTIONS = ("ingest", "breaker", "enforcer", "warmup", "gate")
SHOWN = 'output "parameters" {\n  value = local.parameters\n}\n\noutput "files" {\n  value = local.files\n}\n'
# A value of each variable other than the template's default, and the parameter that comes of it.
OTHERS = {
    "may_pause_account": (True, "MayPauseAccount", "true"),
    "tenants": (True, "Tenants", "true"),
    "dedicated_ips": (True, "DedicatedIps", "true"),
    "gate_in_use": (True, "GateInUse", "true"),
    "hold_mail": (True, "HoldMail", "true"),
    "event_bridge_source": (True, "EventBridgeSource", "true"),
    "alert_email": ("you@example.com", "AlertEmail", "you@example.com"),
    "silence_minutes": (1440, "SilenceMinutes", "1440"),
    "runbook_url": ("https://wiki.example.com/ses", "RunbookUrl", "https://wiki.example.com/ses"),
    "architecture": ("x86_64", "Architecture", "x86_64"),
    "memory_megabytes": (1024, "MemoryMegabytes", "1024"),
    "ingest_window_seconds": (60, "IngestWindowSeconds", "60"),
    "fold_window_seconds": (0, "FoldWindowSeconds", "0"),
    "ingest_concurrency": (2, "IngestConcurrency", "2"),
    "reserve_concurrency": (False, "ReserveConcurrency", "false"),
    "log_level": ("debug", "LogLevel", "debug"),
    "log_retention_days": (3653, "LogRetentionDays", "3653"),
    "protect_tables": (True, "ProtectTables", "true"),
}
REFUSED = {
    "package": "nowhere",
    "name": "Ses_Breaker",
    "alert_email": "you",
    "silence_minutes": 1441,
    "runbook_url": "wiki",
    "architecture": "arm",
    "memory_megabytes": 127,
    "ingest_window_seconds": 0,
    "fold_window_seconds": 301,
    "ingest_concurrency": 1,
    "log_level": "verbose",
    "log_retention_days": 31,
}


class Terraform:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        # Nothing of this machine's own configuration, and no question to a person.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        self.environment |= {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}

    def run(self, *arguments, cwd=None):
        command = [self.program, *map(str, arguments)]
        return subprocess.run(command, cwd=cwd or self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)

    def outputs(self, values):
        """The outputs with these values of variables, or what is refused."""
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(values))
        applied = self.run("apply", "-auto-approve", "-no-color")
        if applied.returncode:
            return None, applied.stdout + applied.stderr
        shown = json.loads(self.run("output", "-json").stdout)
        return {name: output["value"] for name, output in shown.items()}, ""


def check(holds, what):
    if not holds:
        sys.exit(f"terraform.py: {what}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, metavar="DIR", type=pathlib.Path)
    folder = parser.parse_args().work.resolve()
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        print("skipped  the Terraform module: neither terraform nor tofu is installed")
        return
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "package"
    for architecture in ("arm64", "x86_64"):
        (package / "functions" / architecture).mkdir(parents=True)
        for name in FUNCTIONS:
            (package / "functions" / architecture / f"{name}.zip").write_text(f"{architecture} {name}")
    (package / "template.yaml").write_text("Resources: {}\n")
    module = folder / "module"
    module.mkdir()
    for name in ("variables.tf", "locals.tf"):
        shutil.copy(MODULE / name, module)
    (module / "shown.tf").write_text(SHOWN)

    terraform = Terraform(program, module)
    # Fails on a syntax error, too.
    formatted = terraform.run("fmt", "-check", "-recursive", "-diff", MODULE)
    check(formatted.returncode == 0, f"the format is wrong:\n{formatted.stdout}{formatted.stderr}")
    began = terraform.run("init", "-no-color")
    check(began.returncode == 0, began.stdout + began.stderr)

    given = {"package": str(package)}
    outputs, error = terraform.outputs(given)
    check(outputs is not None, error)
    code = outputs["parameters"].pop("CodePrefix")
    check(outputs["parameters"] == {"Architecture": "arm64"}, f"by default: {outputs['parameters']}")
    check(outputs["files"]["gate"].endswith("functions/arm64/gate.zip"), outputs["files"])

    outputs, error = terraform.outputs(given | {name: value for name, (value, _, _) in OTHERS.items()})
    check(outputs is not None, error)
    check(outputs["parameters"].pop("CodePrefix") != code, "other code has another place in the bucket")
    expected = {parameter: text for _, parameter, text in OTHERS.values()}
    check(outputs["parameters"] == expected, f"{outputs['parameters']} instead of {expected}")

    for name, value in REFUSED.items():
        outputs, error = terraform.outputs(given | {name: value})
        check(outputs is None and f"var.{name} is" in error, f"{name} = {value!r} is not refused by its name: {error}")
    print(f"passed   the Terraform module: format, {len(OTHERS)} variables, {len(REFUSED)} refusals; not its resources")


if __name__ == "__main__":
    main()
