#!/usr/bin/env python3
"""The policies of people, compared with what AWS says about its actions.

    permissions.py DOCUMENT

Run it with the Python of an environment that has lint-requirements.txt installed: cfn-lint brings AWS's data along, the Service
Authorization Reference and the schemas of CloudFormation's resource types. DOCUMENT has the policy of a deployer, which holds those
of an operator and a viewer, as JSON after a line `---`.

- Each action exists, and its statement names a resource of a kind that the action is about; `*` where the action knows none.
- Each action that tests/tests/emulator/uncalled.txt says CloudFormation calls is among the handlers' permissions of a type of
  infra/template.yaml.

Exit codes: 0 success, 1 something is wrong, which is printed.
"""

import importlib.util
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(importlib.util.find_spec("cfnlint").origin).parent / "data"
# What SAM makes of a function.
OF_FUNCTIONS = {"AWS::Lambda::Function", "AWS::Lambda::Url", "AWS::Lambda::Permission", "AWS::Lambda::EventSourceMapping",
                "AWS::Lambda::EventInvokeConfig", "AWS::Events::Rule", "AWS::IAM::Role"}
# A pattern for any principal, which is a role or a user.
ANY_PRINCIPAL = {"iam:GetRole", "iam:SimulatePrincipalPolicy"}


def misplaced(policy):
    """Actions that do not exist, or whose statements name no resource of their kinds."""
    reference = json.loads((DATA / "AdditionalSpecs/Policies.json").read_text())
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            service, name = action.split(":")
            actions = {known.lower(): about for known, about in reference[service]["Actions"].items()}
            if name.lower() not in actions:
                yield f"{action} does not exist"
                continue
            kinds = {kind.lower() for kind in actions[name.lower()].get("Resources", [])}
            if not kinds or "*" in statement["Resource"]:
                if bool(kinds) == ("*" in statement["Resource"]) and action not in WITHOUT_A_NAME:
                    yield f"{action} in {statement['Sid']}: " + (f"is about {sorted(kinds)}" if kinds else "knows no resource")
                continue
            formats = [form for kind, about in reference[service]["Resources"].items() if kind.lower() in kinds
                       for form in about["ARNFormats"]]
            patterns = [re.sub(r"\\\$\\\{\w+\\\}", "[^:]*", re.escape(form)).replace(r"\.\*", ".*") for form in formats]
            fits = any(re.fullmatch(pattern, arn) for pattern in patterns for arn in statement["Resource"])
            if not fits and action not in ANY_PRINCIPAL:
                yield f"{action} in {statement['Sid']}: none of {statement['Resource']} is of {sorted(kinds)}"


# A key gets its name when it is made.
WITHOUT_A_NAME = {"kms:CreateKey", "logs:DescribeLogGroups", "logs:DescribeIndexPolicies"}


def foreign():
    """Actions that CloudFormation is said to call, and that no handler of the template's types needs."""
    types = set(re.findall(r"Type: (AWS::\S+)", (ROOT / "infra/template.yaml").read_text())) | OF_FUNCTIONS
    needed = set()
    for path in (DATA / "schemas/resources").glob("*.json"):
        schema = json.loads(path.read_text())
        if schema.get("typeName") in types:
            needed |= {action for handler in schema.get("handlers", {}).values() for action in handler["permissions"]}
    sections = (ROOT / "tests/tests/emulator/uncalled.txt").read_text().split("\n\n")
    [section] = [section for section in sections if section.startswith("# CloudFormation calls them")]
    for line in section.splitlines():
        service, separator, names = line.partition(": ")
        if separator and not line.startswith("#"):
            yield from (f"no handler calls {service}:{name}" for name in names.split() if f"{service}:{name}" not in needed)


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    policy = json.loads(text.rsplit("\n---\n", 1)[1])
    wrong = [*misplaced(policy), *foreign()]
    for line in wrong:
        print(line)
    actions = sum(len(statement["Action"]) for statement in policy["Statement"])
    print(f"{actions} permissions compared: {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
