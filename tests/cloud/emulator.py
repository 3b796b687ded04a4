#!/usr/bin/env python3
"""An AWS on this machine, and ses-breaker's real template deployed to it.

    emulator.py start [--log FILE]
    emulator.py deploy --endpoint URL --stack NAME --code DIR [--parameter KEY=VALUE]...
    emulator.py invoke --endpoint URL --stack NAME --function FUNCTION [--input JSON]
    emulator.py logs --endpoint URL --stack NAME
    emulator.py extract --endpoint URL --stack NAME
    emulator.py cloudwatch --endpoint URL --operation OPERATION [--input JSON]

Run it with the Python of an environment that has emulator-requirements.txt installed.

`start` listens on a free port of 127.0.0.1 and prints one line of JSON as soon as it answers:

    {"endpoint": "http://127.0.0.1:41234", "region": "eu-west-1", "account": "123456789012"}

Clients use that endpoint and Region, the account as access key (it is the account's root user then) and any secret.
It serves until its standard input is closed or it gets SIGTERM or SIGINT, then ends with every function's process; so it
ends with a test run that dies. A process that is still running after that is ended and named, and the exit code is 1. All state is in memory. IAM is enforced: each function has exactly the permissions of its role in the template.

`deploy` creates the stack from infra/template.yaml, or updates it, and prints its outputs and the changes that were
made for the emulator (see `CONCESSIONS`) as one JSON document. DIR is as cargo-lambda writes it: DIR/ingest/bootstrap
(or DIR/ingest/bootstrap.zip), and so on for each function, built for this machine.

`invoke` runs a function of the stack (for example `enforcer`) as a schedule would, and prints its answer. While the function's
concurrency is used up, it waits.

`logs` prints everything that the functions have logged, a line each, after the name of its function and a tab.

`extract` does what CloudWatch does with logs and this one does not: it stores the metrics that the functions have printed in
embedded metric format, and prints the number of values. Each run stores them again.

`cloudwatch` calls an operation of CloudWatch, named as in Python (`get_metric_data`), and prints the answer as JSON, with times in
seconds since 1970.

Exit codes: 0 success, 1 failed, 2 wrong usage. Errors are on standard error.
"""

import argparse
import base64
import email
import io
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
import zipfile

ACCOUNT = "123456789012"
REGION = "eu-west-1"
TEMPLATE = pathlib.Path(__file__).resolve().parents[2] / "infra" / "template.yaml"
# In the environment of the server, and so of all that it starts: how leftovers are found.
MARKER = "SES_BREAKER_EMULATOR"


class Failure(Exception):
    """An error for the user, printed as its message."""


# ------------------------------------------------------------------------------------------------------------- start


def start(log):
    """Serves until standard input is closed or a signal comes. Returns the exit code."""
    answer = os.fdopen(os.dup(1), "w")
    if log:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    # Only one line goes to standard output; all output of the server is log.
    os.dup2(2, 1)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    scratch = tempfile.mkdtemp(prefix="ses-breaker-emulator-")
    mark = uuid.uuid4().hex

    # Functions inherit the server's environment. On AWS they would see nothing of this machine's, in particular no
    # profile or real credentials.
    path = os.environ.get("PATH", os.defpath)
    os.environ.clear()
    os.environ.update(
        {
            "PATH": path,
            "HOME": scratch,
            "TMPDIR": scratch,
            "STATE_DIR": f"{scratch}/state",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            MARKER: mark,
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # The services that the functions call.
            "AWS_ENDPOINT_URL": endpoint,
        }
    )
    tempfile.tempdir = None
    sys.argv = ["ministack"]
    try:
        from ministack.app import main
        from ministack.core import iam_actions, iam_evaluator
        from ministack.services import dynamodb, lambda_svc, ses_v2
        from ministack.services.cloudformation import changesets, handlers, provisioners
        import samtranslator  # noqa: F401  the emulator applies the SAM transform with it
    except ImportError as error:
        raise Failure(f"{error}: install tests/cloud/emulator-requirements.txt into {sys.executable}'s environment")
    know_condition_keys(iam_actions)
    know_default_sets(ses_v2)
    know_stopped_sets(ses_v2)
    know_request_ids(ses_v2)
    know_sent_requests(ses_v2)
    know_windows(lambda_svc, provisioners)
    know_properties(lambda_svc, dynamodb, provisioners)
    know_descriptions(handlers)
    know_actions_and_resources(iam_actions)
    record_calls(iam_evaluator)
    concede(changesets, handlers)

    threading.Thread(target=stop_when_input_ends, daemon=True).start()
    threading.Thread(target=tell_when_ready, args=(endpoint, answer), daemon=True).start()
    failed = False
    try:
        main()
    except SystemExit as ended:
        failed = ended.code not in (None, 0)
    finally:
        # Its own end forgets the functions' processes: first they get no more work, then they are ended.
        lambda_svc._execute_function = lambda *_args, **_kwargs: {"error": True, "body": {"errorMessage": "stopped"}}
        lambda_svc.reset()
        left = end_leftovers(mark)
        shutil.rmtree(scratch, ignore_errors=True)
    for process in left:
        print(f"ended what the emulator had left running: {process}", file=sys.stderr)
    return 1 if failed or left else 0


def know_condition_keys(iam_actions):
    """Teaches the emulator two condition keys that the template's roles use.

    `dynamodb:LeadingKeys` holds the partition key that a request names, `events:source` the source of an event. Without
    them the one condition would always hold, and the other never.
    """
    known = iam_actions.request_tag_context

    def context(service, action, body, parameters):
        found = known(service, action, body, parameters)
        if service == "dynamodb":
            keys = partition_keys(json.loads(body or b"{}"))
            if keys:
                found = {**found, "dynamodb:LeadingKeys": keys}
        elif action == "events:PutEvents":
            request = json.loads(body or b"{}")
            sources = {str(entry.get("Source")) for entry in request.get("Entries", [])}
            # AWS checks each entry. The stack never has several sources in one request, so together they match nothing.
            found = {**found, "events:source": " ".join(sorted(sources))}
        return found

    iam_actions.request_tag_context = context


def know_actions_and_resources(iam_actions):
    """Teaches the emulator what some calls are to IAM, as the Service Authorization Reference says.

    Lambda's calls about concurrency and limits have actions of their own; a rule on the default bus is named without the bus; a
    subscription is one of its topic; and SimulatePrincipalPolicy is about the principal that it names.
    """
    known_action, known_resource = iam_actions.extract_iam_action, iam_actions.extract_resource_arn

    def action_of(service, method, path, *rest):
        if service == "lambda" and path.rstrip("/").endswith("/account-settings"):
            return "lambda:GetAccountSettings"
        if service == "lambda" and path.endswith("/concurrency") and method != "PUT":
            return "lambda:" + {"GET": "GetFunctionConcurrency", "DELETE": "DeleteFunctionConcurrency"}[method]
        return known_action(service, method, path, *rest)

    def resource_of(service, method, path, headers, body, *rest):
        asked = urllib.parse.parse_qs(body.decode(errors="replace")) if service in ("iam", "sns") and body else {}
        if asked.get("Action") == ["SimulatePrincipalPolicy"]:
            return asked["PolicySourceArn"][0]
        if "SubscriptionArn" in asked:
            return asked["SubscriptionArn"][0].rpartition(":")[0]
        return known_resource(service, method, path, headers, body, *rest).replace(":rule/default/", ":rule/")

    iam_actions.extract_iam_action, iam_actions.extract_resource_arn = action_of, resource_of


def record_calls(iam_evaluator):
    """Logs each call that is not the root user's as IAM sees it: a line `call `, and then who, the action, the resource and whether
    it was allowed, as JSON. What CloudFormation does for a caller is no call of its.
    """
    enforce, resolve = iam_evaluator.enforce, iam_evaluator.resolve_principal
    caller = threading.local()

    def resolved(*arguments):
        principal = caller.principal = resolve(*arguments)
        return principal

    def enforced(access_key, action, service, region, resource_arn="*", service_context=None):
        caller.principal = None
        denied = enforce(access_key, action, service, region, resource_arn, service_context)
        principal = caller.principal
        if getattr(principal, "policies", None) is not None:
            call = {"by": principal.arn, "action": action, "resource": resource_arn, "allowed": denied is None}
            sys.stderr.write(f"call {json.dumps(call)}\n")
        return denied

    iam_evaluator.resolve_principal, iam_evaluator.enforce = resolved, enforced


def know_default_sets(ses_v2):
    """Teaches the emulator PutEmailIdentityConfigurationSetAttributes: GetEmailIdentity returns the value."""
    known = ses_v2.handle_request

    async def handle_request(method, path, headers, body, query_params):
        found = re.fullmatch(r"/v2/email/identities/([^/]+)/configuration-set", path)
        identity = ses_v2._identities.get(urllib.parse.unquote(found[1])) if found and method == "PUT" else None
        if identity is None:
            return await known(method, path, headers, body, query_params)
        identity["ConfigurationSetName"] = json.loads(body or b"{}").get("ConfigurationSetName")
        return ses_v2.json_response({})

    ses_v2.handle_request = handle_request


def know_stopped_sets(ses_v2):
    """Teaches the emulator that SendEmail is refused with a configuration set that may not send, or that does not exist.

    The set is a parameter of the call or, as some libraries do it, a header of a raw message.
    """
    known = ses_v2.handle_request

    async def handle_request(method, path, headers, body, query_params):
        name = set_of(json.loads(body or b"{}")) if path == "/v2/email/outbound-emails" else None
        if name and name not in ses_v2._config_sets:
            return ses_v2._missing_config_set(name)
        if name and not ses_v2._config_sets[name]["SendingOptions"]["SendingEnabled"]:
            message = f"Email sending for configuration set <{name}> is paused."
            return ses_v2._json_err("SendingPausedException", message)
        return await known(method, path, headers, body, query_params)

    ses_v2.handle_request = handle_request


def set_of(request):
    """The configuration set of a SendEmail request, or None."""
    raw = request.get("Content", {}).get("Raw", {}).get("Data", "")
    header = email.message_from_bytes(base64.b64decode(raw))["X-SES-CONFIGURATION-SET"]
    return request.get("ConfigurationSetName") or header


def know_request_ids(ses_v2):
    """Teaches the emulator that SES names each request in its answer: django-ses reads the name."""
    known = ses_v2.handle_request

    async def handle_request(method, path, headers, body, query_params):
        status, answered, content = await known(method, path, headers, body, query_params)
        return status, {"x-amzn-RequestId": str(uuid.uuid4()), **answered}, content

    ses_v2.handle_request = handle_request


def know_sent_requests(ses_v2):
    """Teaches the emulator to show the whole request of a mail in the place of its text."""
    known = ses_v2.handle_request

    async def handle_request(method, path, headers, body, query_params):
        answer = await known(method, path, headers, body, query_params)
        if path == "/v2/email/outbound-emails" and answer[0] == 200:
            ses_v2._sent_emails_list()[-1]["RenderedBodyText"] = body.decode()
        return answer

    ses_v2.handle_request = handle_request


def know_windows(lambda_svc, provisioners):
    """Teaches the emulator tumbling windows of event source mappings, as the Lambda guide describes them.

    A batch then says which shard it is from and holds the state that the call before it returned; an answer without a
    state fails; and a window ends with a call, here without records: one before the first batch of a mapping.
    """
    windows, states = {}, {}

    def keeping(provision):
        def provisioned(name, *properties_and_stack):
            made = provision(name, *properties_and_stack)
            esm = lambda_svc._esms[made[0]]
            properties = properties_and_stack[-2]
            windows[(esm["FunctionName"], esm["EventSourceArn"])] = properties.get("TumblingWindowInSeconds", 0)
            return made

        return provisioned

    kind = next(kinds["AWS::Lambda::EventSourceMapping"] for kinds in vars(provisioners).values()
                if isinstance(kinds, dict) and "AWS::Lambda::EventSourceMapping" in kinds)
    kind["create"], kind["update"] = keeping(kind["create"]), keeping(kind["update"])
    execute = lambda_svc._execute_function

    def windowed(function, event):
        records = event.get("Records") if isinstance(event, dict) else None
        source = records[0].get("eventSourceARN") if records and isinstance(records[0], dict) else None
        name = (function.get("config") or function).get("FunctionName")
        seconds = int(windows.get((name, source)) or 0)
        if not seconds or set(event) != {"Records"}:
            return execute(function, event)
        start = time.time() // seconds * seconds

        def call(records, final):
            stamp = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (start, start + seconds)]
            answer = execute(function, {
                "Records": records,
                "window": {"start": stamp[0], "end": stamp[1]},
                "state": states.get((name, source), {}),
                "shardId": "shardId-00000000000000000000-00000000",
                "eventSourceARN": source,
                "isFinalInvokeForWindow": final,
                "isWindowTerminatedEarly": False,
            })
            body = answer.get("body")
            if not answer.get("error") and not isinstance((body or {}).get("state"), dict):
                return {"error": True, "body": {"errorType": "Window", "errorMessage": f"no state in {body!r}"}}
            if not answer.get("error"):
                states[(name, source)] = {} if final else body["state"]
            return answer

        if (name, source) not in states:
            ended = call([], final=True)
            if ended.get("error"):
                return ended
        return call(records, final=False)

    lambda_svc._execute_function = windowed


def know_properties(lambda_svc, dynamodb, provisioners):
    """Teaches the emulator's CloudFormation what it leaves out.

    Lambda refuses code that is not a zip file, and functions reserve concurrency; tables show the key that encrypts them.
    """

    def reserve(name, properties):
        if not zipfile.is_zipfile(io.BytesIO(lambda_svc._functions[name]["code_zip"] or b"")):
            raise ValueError("Could not unzip uploaded file. Please check your file, then try to upload again.")
        reserved = properties.get("ReservedConcurrentExecutions")
        lambda_svc._functions[name]["concurrency"] = None if reserved is None else int(reserved)

    def encrypt(name, properties):
        dynamodb._tables[name]["SSEDescription"] = dynamodb._sse_description_from_spec(properties.get("SSESpecification"))

    for kind, complete in (("AWS::Lambda::Function", reserve), ("AWS::DynamoDB::Table", encrypt)):
        handlers = next(kinds[kind] for kinds in vars(provisioners).values()
                        if isinstance(kinds, dict) and "create" in kinds.get(kind, ()))
        for operation in ("create", "update"):
            handlers[operation] = completed(handlers[operation], complete)


def completed(provision, complete):
    def provisioned(name, *properties_and_stack):
        made = provision(name, *properties_and_stack)
        # An update has the properties before and after, and more behind them in newer versions.
        properties = [part for part in properties_and_stack if isinstance(part, dict)]
        complete(made[0], properties[1] if provision.__name__.endswith("update") else properties[0])
        return made

    return provisioned


def concede(changesets, handlers):
    """Lets the emulator's CloudFormation change our template as `CONCESSIONS` say, no matter who deploys it."""
    transform = handlers._apply_transforms

    def transformed(template, provided_params=None, previous_params=None):
        if "EventsTopicPolicy" in template.get("Resources", {}):
            parameters = {**values_of(previous_params), **values_of(provided_params)}
            for change, _reason in CONCESSIONS:
                change(template["Resources"], parameters)
        return transform(template, provided_params, previous_params)

    changesets._apply_transforms = handlers._apply_transforms = transformed


def know_descriptions(handlers):
    """Teaches the emulator that a stack has the description of its template, also when a change set has created it."""
    from ministack.services.cloudformation import _change_sets, _stacks

    execute = handlers._ACTION_HANDLERS["ExecuteChangeSet"]

    def executed(params):
        planned = {known["StackName"]: known["_template"].get("Description", "") for known in _change_sets.values()}
        answer = execute(params)
        for name, description in planned.items():
            stack = _stacks.get(name)
            if stack and stack["StackStatus"] != "REVIEW_IN_PROGRESS":
                stack["Description"] = stack["Description"] or description
        return answer

    handlers._ACTION_HANDLERS["ExecuteChangeSet"] = executed


def values_of(parameters):
    """Parameters as the emulator passes them: with values of their own, or that are kept."""
    if isinstance(parameters, list):
        parameters = {parameter.get("Key", parameter.get("ParameterKey")): parameter for parameter in parameters}
    plain = {}
    for name, value in (parameters or {}).items():
        if isinstance(value, dict):
            value = value.get("Value", value.get("ParameterValue"))
        # A value that is kept is an empty text here.
        if value not in (None, ""):
            plain[name] = value
    return plain


def partition_keys(request):
    """The values of `pk` that a DynamoDB request for one item or one query names."""
    values = [item["pk"] for item in (request.get("Key"), request.get("Item")) if item and "pk" in item]
    names = request.get("ExpressionAttributeNames", {})
    for name, value in re.findall(r"(#?\w+)\s*=\s*(:\w+)", request.get("KeyConditionExpression", "")):
        if names.get(name, name) == "pk":
            values.append(request.get("ExpressionAttributeValues", {}).get(value, {}))
    return [str(content) for value in values for content in value.values()]


def stop_when_input_ends():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def tell_when_ready(endpoint, answer):
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1):
                break
        except OSError:
            time.sleep(0.02)
    print(json.dumps({"endpoint": endpoint, "region": REGION, "account": ACCOUNT}), file=answer, flush=True)


def end_leftovers(mark):
    """Ends every process that has inherited the mark, and returns their descriptions."""
    wanted = f"{MARKER}={mark}".encode()
    deadline = time.monotonic() + 5
    while True:
        left = {}
        for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
            try:
                if int(environ.parent.name) != os.getpid() and wanted in environ.read_bytes().split(b"\0"):
                    command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    left[int(environ.parent.name)] = command.strip()
            except OSError:
                continue
        if not left or time.monotonic() > deadline:
            break
        # They may be ending already.
        time.sleep(0.05)
    for process in left:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return [f"{process} {command}" for process, command in left.items()]


# ------------------------------------------------------------------------------------------------------------ deploy


def statements(resource, keep):
    """Drops the policy statements of a resource that must not be kept."""
    document = resource["Properties"]["PolicyDocument"]
    document["Statement"] = [statement for statement in document["Statement"] if keep(statement)]


def count_of_ingests(resources, parameters):
    mapping = resources["IngestFunction"]["Properties"]["Events"]["Queue"]["Properties"]
    mapping["ScalingConfig"]["MaximumConcurrency"] = int(parameters.get("IngestConcurrency", 5))


def unprotected_tables(resources, _parameters):
    for table in ("LedgerTable", "ReputationTable"):
        del resources[table]["Properties"]["DeletionProtectionEnabled"]


def plain_http(resources, _parameters):
    for policy in ("EventsTopicPolicy", "AlertTopicPolicy", "ChatTopicPolicy", "EventsQueuePolicy", "DeadLetterQueuePolicy"):
        statements(resources[policy], lambda statement: statement.get("Sid") != "NothingWithoutTls")
    # They say nothing else.
    for policy in ("HeldMailBucketPolicy", "HeldMailTopicPolicy"):
        del resources[policy]


def tests_publish_events(resources, _parameters):
    statements(resources["EventsTopicPolicy"], lambda statement: statement.get("Sid") != "NobodyElse")


# The changes in a copy of the template, and why. The changed parts are not tested here.
CONCESSIONS = [
    (count_of_ingests, "a number that comes from a parameter stays text, and its queue poller fails on it"),
    (unprotected_tables, "the text 'false' counts as true, so no table could ever be deleted"),
    (plain_http, "it speaks no TLS, and would refuse every call"),
    (tests_publish_events, "its SES publishes no events, so tests publish in its stead, as the account's root user"),
]


def deploy(arguments):
    """Creates or updates the stack, and returns its outputs and the concessions."""
    from botocore.exceptions import BotoCoreError, ClientError
    from samtranslator.yaml_helper import yaml_parse

    parameters = {"Architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"}
    for parameter in arguments.parameter:
        name, separator, value = parameter.partition("=")
        if not separator:
            raise Failure(f"--parameter {parameter}: must be KEY=VALUE")
        parameters[name] = value
    template = yaml_parse(arguments.template.read_text())
    # The emulator would accept any.
    unknown = sorted(set(parameters) - set(template["Parameters"]))
    if unknown:
        raise Failure(f"{arguments.template} has no parameter {', '.join(unknown)}")
    resources = template["Resources"]
    functions = {
        name: pathlib.PurePosixPath(resource["Properties"]["CodeUri"]).name
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    archives = {name: archive(arguments.code / folder) for name, folder in functions.items()}

    try:
        bucket = f"{arguments.stack}-artifacts".lower()
        s3 = client(arguments, "s3")
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for name, code in archives.items():
            key = f"{functions[name]}-{uuid.uuid4().hex}.zip"
            s3.put_object(Bucket=bucket, Key=key, Body=code)
            resources[name]["Properties"]["CodeUri"] = {"Bucket": bucket, "Key": key}
        # Through the bucket: a template in the request itself is limited to 51,200 bytes.
        s3.put_object(Bucket=bucket, Key="template.json", Body=json.dumps(template).encode())
        outputs = put_stack(client(arguments, "cloudformation"), ClientError, arguments, bucket, parameters)
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"{arguments.endpoint}: {error}")
    concessions = {change.__name__.replace("_", " "): reason for change, reason in CONCESSIONS}
    return {"stack": arguments.stack, "outputs": outputs, "concessions": concessions}


def archive(folder):
    """The function's code as Lambda expects it: a zip with an executable `bootstrap` at its top."""
    if (folder / "bootstrap.zip").is_file():
        return (folder / "bootstrap.zip").read_bytes()
    bootstrap = folder / "bootstrap"
    if not bootstrap.is_file():
        raise Failure(f"{bootstrap} is missing: build the functions first (cargo lambda build --release)")
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o755 << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as code:
        # Stored without compression: it is never downloaded.
        code.writestr(entry, bootstrap.read_bytes())
    return packed.getvalue()


def put_stack(cloudformation, client_error, arguments, bucket, parameters):
    stack = arguments.stack
    request = {
        "StackName": stack,
        "TemplateURL": f"{arguments.endpoint}/{bucket}/template.json",
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    }
    try:
        cloudformation.describe_stacks(StackName=stack)
        cloudformation.update_stack(**request)
    except client_error as error:
        if "does not exist" not in str(error):
            raise
        cloudformation.create_stack(**request)
    deadline = time.monotonic() + 60
    while True:
        state = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        if not state["StackStatus"].endswith("_IN_PROGRESS"):
            break
        if time.monotonic() > deadline:
            raise Failure(f"stack {stack} is still {state['StackStatus']} after 60 s")
        time.sleep(0.05)
    if state["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in reversed(events)
            if event["ResourceStatus"].endswith("FAILED")
        ]
        raise Failure("\n  ".join([f"stack {stack} is {state['StackStatus']}", *reasons]))
    return {output["OutputKey"]: output["OutputValue"] for output in state.get("Outputs", [])}


# -------------------------------------------------------------------------------------------- invoke, logs and metrics


def invoke(arguments):
    """Runs a function, and returns its answer as text."""
    from botocore.exceptions import BotoCoreError, ClientError

    functions = client(arguments, "lambda")
    name = f"{arguments.stack}-{arguments.function}"
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = functions.invoke(FunctionName=name, Payload=arguments.input.encode())
            break
        except functions.exceptions.TooManyRequestsException as error:
            if time.monotonic() > deadline:
                raise Failure(f"{name} was busy for 60 s: {error}")
            time.sleep(0.05)
        except (BotoCoreError, ClientError) as error:
            raise Failure(f"{name}: {error}")
    text = answer["Payload"].read().decode()
    if "FunctionError" in answer:
        raise Failure(f"{name} failed: {text}")
    return text


def logs(arguments):
    """Yields the lines of the stack's log groups, one after the other."""
    from botocore.exceptions import BotoCoreError, ClientError

    groups = client(arguments, "logs")
    try:
        prefix = f"/aws/lambda/{arguments.stack}-"
        for page in groups.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
            for group in page["logGroups"]:
                name = group["logGroupName"]
                for events in groups.get_paginator("filter_log_events").paginate(logGroupName=name):
                    for event in events["events"]:
                        for line in event["message"].splitlines():
                            yield f"{name.rpartition('-')[2]}\t{line}"
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"{arguments.endpoint}: {error}")


def extract(arguments):
    """Puts the metrics in the stack's logs as CloudWatch would, and returns how many values they hold.

    See the AWS page "Specification: Embedded metric format": one value for each metric and each set of dimensions, which
    are members of the document's root.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    data = {}
    for line in logs(arguments):
        message = line.partition("\t")[2]
        if not message.startswith('{"_aws"'):
            continue
        root = json.loads(message)
        for directive in root["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = [{"Name": name, "Value": root[name]} for name in names]
                for metric in directive["Metrics"]:
                    datum = {
                        "MetricName": metric["Name"],
                        "Dimensions": dimensions,
                        "Timestamp": root["_aws"]["Timestamp"] / 1000,
                        "Unit": metric.get("Unit", "None"),
                        "Value": root[metric["Name"]],
                    }
                    data.setdefault(directive["Namespace"], []).append(datum)
    cloudwatch = client(arguments, "cloudwatch")
    try:
        for namespace, values in data.items():
            # A request accepts a thousand.
            for first in range(0, len(values), 1000):
                cloudwatch.put_metric_data(Namespace=namespace, MetricData=values[first : first + 1000])
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"{arguments.endpoint}: {error}")
    return sum(len(values) for values in data.values())


def delete(arguments):
    """Deletes the stack, as `sam delete` does through CloudFormation."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client(arguments, "cloudformation").delete_stack(StackName=arguments.stack)
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"deleting {arguments.stack}: {error}")


def cloudwatch(arguments):
    """Calls an operation of CloudWatch, and returns its answer as text."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = getattr(client(arguments, "cloudwatch"), arguments.operation)(**json.loads(arguments.input))
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"{arguments.operation}: {error}")
    del answer["ResponseMetadata"]
    return json.dumps(answer, default=lambda time: time.timestamp())


def client(arguments, service):
    """A client of the emulator, as the account's root user."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise Failure(f"{error}: install tests/cloud/emulator-requirements.txt into {sys.executable}'s environment")
    return boto3.client(
        service,
        endpoint_url=arguments.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=150),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start", help="serve until standard input is closed")
    starting.add_argument("--log", metavar="FILE", help="append the log to FILE instead of standard error")
    deploying = commands.add_parser("deploy", help="create or update a stack")
    deploying.add_argument("--endpoint", required=True, metavar="URL", help="as printed by start")
    deploying.add_argument("--stack", required=True, metavar="NAME")
    deploying.add_argument("--code", required=True, metavar="DIR", type=pathlib.Path, help="with ingest/bootstrap, …")
    deploying.add_argument("--parameter", action="append", default=[], metavar="KEY=VALUE")
    deploying.add_argument("--template", default=TEMPLATE, metavar="FILE", type=pathlib.Path)
    invoking = commands.add_parser("invoke", help="run a function of a stack")
    invoking.add_argument("--endpoint", required=True, metavar="URL", help="as printed by start")
    invoking.add_argument("--stack", required=True, metavar="NAME")
    invoking.add_argument("--function", required=True, metavar="NAME", help="for example breaker")
    invoking.add_argument("--input", default="{}", metavar="JSON")
    logging = commands.add_parser("logs", help="print what the functions of a stack have logged")
    logging.add_argument("--endpoint", required=True, metavar="URL", help="as printed by start")
    logging.add_argument("--stack", required=True, metavar="NAME")
    deleting = commands.add_parser("delete", help="delete a stack")
    deleting.add_argument("--endpoint", required=True, metavar="URL", help="as printed by start")
    deleting.add_argument("--stack", required=True, metavar="NAME")
    extracting = commands.add_parser("extract", help="put the metrics that the functions of a stack have printed")
    extracting.add_argument("--endpoint", required=True, metavar="URL", help="as printed by start")
    extracting.add_argument("--stack", required=True, metavar="NAME")
    asking = commands.add_parser("cloudwatch", help="call an operation of CloudWatch")
    asking.add_argument("--endpoint", required=True, metavar="URL", help="as printed by start")
    asking.add_argument("--operation", required=True, metavar="OPERATION", help="for example list_metrics")
    asking.add_argument("--input", default="{}", metavar="JSON")
    arguments = parser.parse_args()
    try:
        if arguments.command == "start":
            return start(arguments.log)
        if arguments.command == "delete":
            return delete(arguments)
        if arguments.command == "invoke":
            print(invoke(arguments))
            return 0
        if arguments.command == "logs":
            for line in logs(arguments):
                print(line)
            return 0
        if arguments.command == "extract":
            print(extract(arguments))
            return 0
        if arguments.command == "cloudwatch":
            print(cloudwatch(arguments))
            return 0
        print(json.dumps(deploy(arguments), indent=2))
        return 0
    except (Failure, OSError) as error:
        print(f"emulator.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
