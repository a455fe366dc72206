"""The files for clusters: three places to edit, valid for who reads them, nothing misspelt."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LAUNCHED = ("cluster.yaml", "deploy/local.yaml")
FILES = (*LAUNCHED, "deploy/kuberay.yaml")


def cluster(file: str = "cluster.yaml") -> dict[str, Any]:
    config = yaml.safe_load((ROOT / file).read_text())
    assert isinstance(config, dict)
    return config


def pinned(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {str(canonicalize_name(name)): Version(version) for name, version in pairs}


def places(file: str) -> list[tuple[str, str]]:
    """What the marks say, and the text up to the next mark, of each of the places to edit."""
    text = (ROOT / file).read_text()
    marked = r"^ *# -- EDIT (\d)/3: (.+?)-*\n(.*?)(?=^ *# -- (?:EDIT|end)|^spec:)"
    found = re.findall(marked, text, re.MULTILINE | re.DOTALL)
    assert [number for number, _, _ in found] == ["1", "2", "3"]
    assert len(re.findall(r"# -- EDIT", text)) == 3
    return [(title.strip(), body) for _, title, body in found]


def anchors(text: str) -> set[str]:
    return set(re.findall(r"(?<=[ \[])&(\w+)", text))


# -- the places to edit ------------------------------------------------------------------------


def test_the_three_places_of_the_cluster_file_are_provider_region_and_sizes() -> None:
    (one, provider), (two, region), (three, sizes) = places("cluster.yaml")
    assert (one, two, three) == ("provider", "region", "sizes")
    assert anchors(provider) == {"provider", "user"}
    assert anchors(region) == {"region", "zones", "image", "storage", "profile", "worker_profile"}
    machines = {f"{kind}_{what}" for kind in ("gpu", "cpu") for what in ("machine", "resources")}
    assert machines <= anchors(sizes)
    assert {"count", "gpu_count", "cpu_count", "head_machine", "disk"} <= anchors(sizes)
    assert "MarketType: spot" in sizes


def test_the_places_of_the_other_files() -> None:
    machines, user, storage = places("deploy/local.yaml")
    assert anchors(machines[1]) == {"head", "workers"}
    assert anchors(user[1]) == {"user", "key"}
    assert anchors(storage[1]) == {"storage"}
    image, storage, sizes = places("deploy/kuberay.yaml")
    assert (anchors(image[1]), anchors(storage[1])) == ({"image"}, {"storage"})
    assert sizes[1].count("maxReplicas: ") == sizes[1].count("tolerations:") == 2


@pytest.mark.parametrize("file", LAUNCHED)
def test_nothing_below_the_places_needs_an_edit(file: str) -> None:
    above, end, below = (ROOT / file).read_text().partition("# -- end of what you edit")
    assert end
    for value in ("aws", "us-west-2", "ubuntu", "s3://", "ami-", ".2xlarge", "192.0.2."):
        assert value not in below, value
    assert anchors(below) == set()
    named, used = anchors(above), set(re.findall(r"\*(\w+)", below))
    assert named == used  # what is edited has an effect


def test_an_edit_of_each_place_arrives() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    for old, new in (
        ("&user ubuntu", "&user ec2-user"),
        ("&region us-west-2", "&region eu-central-1"),
        ("&zones us-west-2a,us-west-2b", "&zones eu-central-1b"),
        ("s3://BUCKET/runs", "s3://mine/searches"),
        ("InstanceType: g6.2xlarge", "InstanceType: g6e.4xlarge"),
        ('{"CPU": 8, "GPU": 1}', '{"CPU": 16, "GPU": 1}'),
        ("&gpu_count 8", "&gpu_count 3"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    config = yaml.safe_load(text)
    assert config["auth"]["ssh_user"] == "ec2-user"
    assert config["provider"]["region"] == "eu-central-1"
    assert config["provider"]["availability_zone"] == "eu-central-1b"
    assert any("RAYNAS_STORAGE=s3://mine/searches" in c for c in config["setup_commands"])
    gpu = config["available_node_types"]["gpu_worker"]
    assert gpu["node_config"]["InstanceType"] == "g6e.4xlarge"
    assert (gpu["resources"], gpu["max_workers"]) == ({"CPU": 16, "GPU": 1}, 3)


# -- what nodes do -----------------------------------------------------------------------------


@pytest.mark.parametrize("file", LAUNCHED)
def test_what_nodes_run_is_shell_and_their_settings_arrive(file: str, tmp_path: Path) -> None:
    config = cluster(file)
    kinds = ("initialization", "setup", "head_setup", "worker_setup")
    starts = ("head_start_ray", "worker_start_ray")
    for kind in (*kinds, *starts):
        for command in config.get(f"{kind}_commands", ()):
            done = subprocess.run(["bash", "-n", "-c", command], check=False)
            assert done.returncode == 0, command
    settings = [c for c in config["setup_commands"] if "~/.raynas" in c]
    shell = " && ".join(f"({command})" for command in (*settings, *settings))  # `ray up` again
    shell += " && . ~/.raynas && env"
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", shell], env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert told["RAY_AUTH_MODE"] == "token"
    assert told["RAY_USAGE_STATS_ENABLED"] == "0"
    assert int(told["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60
    assert told["PATH"].startswith(f"{tmp_path}/raynas/.venv/bin:")
    assert told["RAYNAS_STORAGE"] in ("s3://BUCKET/runs", f"{tmp_path}/runs")
    assert (tmp_path / ".bashrc").read_text() == ". ~/.raynas\n"


@pytest.mark.parametrize("file", LAUNCHED)
def test_every_node_starts_with_token_authentication(file: str) -> None:
    config = cluster(file)
    for role in ("head", "worker"):
        commands = [c for c in config[f"{role}_start_ray_commands"] if re.search(r"\bray st", c)]
        assert any("ray start" in c for c in commands)
        for command in commands:
            assert command.startswith(". ~/.raynas && ")  # which names the mode
    assert any(place.endswith("/.ray/auth_token") for place in config["file_mounts"])
    assert cluster("deploy/kuberay.yaml")["spec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("file", LAUNCHED)
def test_nodes_install_the_pinned_versions(file: str) -> None:
    config = cluster(file)
    assert next(p for p, here in config["file_mounts"].items() if here == ".").endswith("/raynas")
    assert "cd ~/raynas && make setup-cluster" in config["setup_commands"]
    for kind in ("setup", "head_setup", "worker_setup"):
        assert not any("pip install" in c for c in config.get(f"{kind}_commands", ()))


def test_what_clusters_need_beside_is_pinned_as_well() -> None:
    own, more = pinned("constraints.txt"), pinned("deploy/constraints.txt")
    assert not set(own) & set(more)
    assert {"aiohttp", "opencensus", "prometheus-client", "grpcio"} <= set(more)
    assert "-c constraints.txt -c deploy/constraints.txt" in (ROOT / "Makefile").read_text()


def test_runs_of_all_files_go_to_the_named_storage() -> None:
    for group in kubernetes_groups():
        for container in group["template"]["spec"]["containers"]:
            env = {entry["name"]: entry["value"] for entry in container["env"]}
            assert env["RAYNAS_STORAGE"].startswith("s3://")
            assert int(env["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60


class Metadata(BaseHTTPRequestHandler):
    """What EC2 says to its own machines: nothing of an end when asked first."""

    asked = 0

    def do_PUT(self) -> None:
        self.answer(200, b"a-token")

    def do_GET(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token"] == "a-token"
        assert self.path == "/latest/meta-data/spot/instance-action"
        type(self).asked += 1
        self.answer(404 if self.asked == 1 else 200, b"{}")

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *what: Any) -> None:
        """Nothing."""


def test_a_spot_machine_tells_ray_of_its_end_and_tries_again(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    ray = tmp_path / "ray"  # fails once, as a head that is busy
    ray.write_text('#!/bin/sh\necho "$@" >> "$0.said"\n[ $(wc -l < "$0.said") -gt 1 ]\n')
    ray.chmod(0o755)
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "PERIOD": "0.1",
            "METADATA": f"http://127.0.0.1:{server.server_port}",
        }  # fmt: skip
        command = ["bash", str(ROOT / "deploy" / "spot.sh"), "head:6379"]
        done = subprocess.run(command, env=environment, check=False, timeout=30)
        server.shutdown()
    assert done.returncode == 0
    assert Metadata.asked == 2
    first, second = (tmp_path / "ray.said").read_text().splitlines()
    assert first == second
    assert first.startswith("drain-node --address head:6379 --reason DRAIN_NODE_REASON_PREEMPTION ")
    (start,) = [c for c in cluster()["worker_start_ray_commands"] if "spot.sh" in c]
    assert "~/raynas/deploy/spot.sh $RAY_HEAD_IP:6379" in start


# -- who reads them ----------------------------------------------------------------------------


def test_node_types_hold_no_misspelt_settings() -> None:
    # Ray's own validation lets anything pass inside provider and node_config
    config = cluster()
    known = {"InstanceType", "ImageId", "BlockDeviceMappings", "InstanceMarketOptions"}
    known |= {"IamInstanceProfile"}
    assert set(config["provider"]) <= {"type", "region", "availability_zone", "cache_stopped_nodes"}
    for zone in config["provider"]["availability_zone"].split(","):
        assert zone.startswith(config["provider"]["region"])
    for name, node in config["available_node_types"].items():
        needed = {"InstanceType", "ImageId", "IamInstanceProfile"}
        assert needed <= set(node["node_config"]) <= known, name
        assert node["max_workers"] <= config["max_workers"], name
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0  # no trial beside the driver
    assert "InstanceMarketOptions" not in types[config["head_node_type"]]["node_config"]
    assert any(node["resources"].get("GPU") for node in types.values())


@pytest.mark.ray
@pytest.mark.parametrize("file", LAUNCHED)
def test_ray_takes_the_cluster_file(file: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster(file))
    validate_config(prepared)
    # ray merges the common set-up into both roles; ours must not be replaced by its defaults
    for role in ("head", "worker"):
        assert any("make setup" in c for c in prepared[f"{role}_setup_commands"])
    broken = {**cluster(file), "max_wrokers": 3}
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(broken))


@pytest.mark.ray
def test_all_given_machines_work() -> None:
    from ray.autoscaler._private.util import prepare_config

    config = cluster("deploy/local.yaml")
    workers = len(config["provider"]["worker_ips"])
    (node,) = prepare_config(config)["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == workers > 1


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """deploy/aws.py, in an account that exists in this process only."""
    moto = pytest.importorskip("moto")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes the key of its machines there
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    source = importlib.util.spec_from_file_location("deploy_aws", ROOT / "deploy" / "aws.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        source.loader.exec_module(module)
        yield module


def own_cluster(folder: Path) -> Path:
    file = folder / "cluster.yaml"
    file.write_text((ROOT / "cluster.yaml").read_text().replace("BUCKET", "a-bucket"))
    return file


def test_bucket_and_rights_are_made_once(
    aws: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import boto3

    for _ in range(2):
        aws.main(str(own_cluster(tmp_path)))
    told = "a-bucket in us-west-2, instance profiles raynas and raynas-worker: ready"
    assert told in capsys.readouterr().out
    (bucket,) = boto3.client("s3").list_buckets()["Buckets"]
    assert bucket["Name"] == "a-bucket"
    for profile in ("raynas", "raynas-worker"):
        found = boto3.client("iam").get_instance_profile(InstanceProfileName=profile)
        (role,) = found["InstanceProfile"]["Roles"]
        assert role["RoleName"] == profile


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def rights_of(role: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(action, resource) -> the conditions of each statement that allows it."""
    import boto3

    iam = boto3.client("iam")
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["raynas"]
    policy = iam.get_role_policy(RoleName=role, PolicyName="raynas")["PolicyDocument"]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for part in (policy if isinstance(policy, dict) else json.loads(policy))["Statement"]:
        assert part["Effect"] == "Allow"
        for action in as_list(part["Action"]):
            for resource in as_list(part["Resource"]):
                found.setdefault((action, resource), []).append(part.get("Condition", {}))
    return found


BUCKET_RIGHTS = {
    ("s3:ListBucket", "arn:aws:s3:::a-bucket"),
    ("s3:GetBucketLocation", "arn:aws:s3:::a-bucket"),
    *((f"s3:{verb}Object", "arn:aws:s3:::a-bucket/*") for verb in ("Get", "Put", "Delete")),
}


def test_workers_may_read_and_write_runs_and_nothing_else(aws: ModuleType, tmp_path: Path) -> None:
    aws.main(str(own_cluster(tmp_path)))
    assert set(rights_of("raynas-worker")) == BUCKET_RIGHTS


def test_the_head_may_start_and_end_machines_of_its_cluster_only(
    aws: ModuleType, tmp_path: Path
) -> None:
    import boto3

    aws.main(str(own_cluster(tmp_path)))
    rights = rights_of("raynas")
    assert set(rights) >= BUCKET_RIGHTS
    assert not any("*" in action for action, _ in rights)
    everywhere = {action for action, resource in rights if resource == "*"}
    assert everywhere  # looks alone, which change nothing
    assert all(action.startswith("ec2:Describe") for action in everywhere)
    account = boto3.client("sts").get_caller_identity()["Account"]
    machines = f"arn:aws:ec2:us-west-2:{account}:instance/*"
    requested = {"StringEquals": {"aws:RequestTag/ray-cluster-name": "raynas"}}
    tagged = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "raynas"}}
    assert rights["ec2:RunInstances", machines] == [requested]
    assert rights["ec2:TerminateInstances", machines] == [tagged]
    created = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    assert rights["ec2:CreateTags", machines] == [created, tagged]
    (passed,) = (resource for action, resource in rights if action == "iam:PassRole")
    assert passed == f"arn:aws:iam::{account}:role/raynas-worker"  # not its own
    to_machines = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    assert rights["iam:PassRole", passed] == [to_machines]
    changing = {action for action, _ in rights if action.startswith(("ec2:", "iam:", "ssm:"))}
    assert changing - everywhere == {
        "ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "iam:PassRole",
        "ssm:GetParameters",
    }  # fmt: skip
    for action, resource in rights:
        if action in ("ec2:RunInstances", "ssm:GetParameters"):
            assert ":us-west-2:" in resource, resource


def test_the_tag_is_the_one_by_which_ray_knows_its_machines(aws: ModuleType) -> None:
    tags = pytest.importorskip("ray.autoscaler.tags")
    assert aws.CLUSTER_TAG == tags.TAG_RAY_CLUSTER_NAME


def test_rights_that_an_earlier_version_gave_are_taken_back(
    aws: ModuleType, tmp_path: Path
) -> None:
    import boto3

    iam = boto3.client("iam")
    iam.create_role(RoleName="raynas", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="raynas", PolicyArn=aws.FORMER_POLICY)
    aws.main(str(own_cluster(tmp_path)))
    assert rights_of("raynas")  # which sees that no policy is attached


def test_a_bucket_that_nobody_named_is_told(aws: ModuleType) -> None:
    with pytest.raises(SystemExit, match="storage names no bucket: EDIT 2/3"):
        aws.main(str(ROOT / "cluster.yaml"))


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # of moto and boto3, in Ray's own calls
def test_ray_launches_the_machines_of_the_cluster_file(aws: ModuleType, tmp_path: Path) -> None:
    """Ray's own code for AWS, which checks what its schema does not: zones, images, markets."""
    import boto3
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND

    file = own_cluster(tmp_path)
    aws.main(str(file))
    prepared = prepare_config(yaml.safe_load(file.read_text()))
    config = AWSNodeProvider.bootstrap_config(prepared)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, node in config["available_node_types"].items():
        kind = "head" if name == config["head_node_type"] else "worker"
        provider.create_node(node["node_config"], {TAG_RAY_NODE_KIND: kind}, 1)
    ec2 = boto3.client("ec2", region_name="us-west-2")
    found = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    spot = {i["InstanceType"]: i.get("InstanceLifecycle") for i in found}
    assert spot == {"m7i.xlarge": None, "g6.2xlarge": "spot", "c7i.4xlarge": "spot"}
    for instance in found:
        assert instance["Placement"]["AvailabilityZone"] in ("us-west-2a", "us-west-2b")
        head = instance["InstanceType"] == "m7i.xlarge"
        profile = instance["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        assert profile == ("raynas" if head else "raynas-worker")


# -- Kubernetes --------------------------------------------------------------------------------


def kubernetes_groups() -> list[dict[str, Any]]:
    spec = cluster("deploy/kuberay.yaml")["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_the_manifest_for_kubernetes_holds_together() -> None:
    manifest = cluster("deploy/kuberay.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    assert all(isinstance(v, str) for v in manifest["metadata"]["annotations"].values())
    spec = manifest["spec"]
    assert Version(spec["rayVersion"]) == pinned("constraints.txt")["ray"]
    head, *workers = kubernetes_groups()
    assert head["rayStartParams"]["num-cpus"] == "0"  # no trial beside the driver
    images = set()
    for group in (head, *workers):
        for container in group["template"]["spec"]["containers"]:
            images.add(container["image"])
            limits = container["resources"]["limits"]
            assert set(container["resources"]["requests"]) == set(limits)
            volumes = {v["name"] for v in group["template"]["spec"].get("volumes", ())}
            assert {m["name"] for m in container.get("volumeMounts", ())} <= volumes
    assert len(images) == 1
    assert {g["groupName"] for g in workers} == {"gpu", "cpu"}
    for group in workers:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_pods_keep_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, as far as it is ours."""
    spec = cluster("deploy/kuberay.yaml")["spec"]
    contexts = [spec["autoscalerOptions"]["securityContext"]]
    for group in kubernetes_groups():
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == image_user()
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        assert all("emptyDir" in volume for volume in pod.get("volumes", ()))
        contexts += [container.get("securityContext") for container in pod["containers"]]
        assert not any("hostPort" in p for c in pod["containers"] for p in c.get("ports", ()))
    for context in contexts:
        assert context["allowPrivilegeEscalation"] is False
        assert context["privileged"] is False
        assert context["runAsNonRoot"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    for group in spec["workerGroupSpecs"]:  # the head's autoscaler asks Kubernetes for pods
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def image_user() -> int:
    """The user of the image, which is not root, by number: Kubernetes cannot see what a name is."""
    docker = (ROOT / "deploy" / "Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", docker, re.MULTILINE)
    assert len(users) == 1
    user, group = map(int, users[0].split(":"))
    assert f"--uid {user} --gid {group} ray" in docker
    assert user > 0
    # what follows is done and run by that user
    assert docker.index("USER") < docker.index("make setup-cluster")
    return user


def test_the_base_image_may_be_named_by_its_digest() -> None:
    docker = (ROOT / "deploy" / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG BASE=(\S+)$", docker, re.MULTILINE)
    assert re.findall(r"^FROM (.+)$", docker, re.MULTILINE) == ["${BASE}"]
    assert re.fullmatch(r"python:3\.\d+-slim(@sha256:[0-9a-f]{64})?", base)
    assert f"--build-arg BASE={base}@sha256:DIGEST" in docker or "@sha256:" in base


def sent(path: str) -> bool:
    """Whether `docker build` gets a file, by .dockerignore: the last pattern that fits decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        wild = {"**/": "(?:.+/)?", "*": "[^/]*"}
        parts = re.split(r"(\*\*/|\*)", line.removeprefix("!"))
        pattern = "".join(wild.get(part) or re.escape(part) for part in parts)
        if re.match(rf"{pattern}(?:/|$)", path):
            ignored = not line.startswith("!")
    return not ignored


def test_the_image_is_sent_what_it_copies_and_nothing_else() -> None:
    docker = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY --chown=ray (.+) \S+$", docker, re.MULTILINE)
    sources = [name for line in copied for name in line.split()]
    for source in sources:
        files = [ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*.py")
        for file in files:
            assert sent(file.relative_to(ROOT).as_posix()), file
    kept_home = (
        ".git/config", ".venv/bin/python", "runs/quickstart/run.json", ".env",
        "tests/fakes/toys.py", "raynas/__pycache__/cli.cpython-311.pyc", "raynas/.env",
        "experiments/.netrc", "deploy/aws.py", "cluster.yaml", "id_ed25519",
        "data/cifar10/test_batch",
    )  # fmt: skip
    assert [path for path in kept_home if sent(path)] == []


def test_the_image_for_kubernetes_is_made_of_files_that_are_there() -> None:
    docker = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY --chown=ray (.+) \S+$", docker, re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert {"Makefile", "constraints.txt", "deploy/constraints.txt", "raynas"} <= sources
    assert all((ROOT / name).exists() for name in sources)
    assert "make setup-cluster" in docker
    assert docker.index("deploy/constraints.txt") < docker.index("make setup-cluster")


# -- the words about them ----------------------------------------------------------------------


def test_the_cluster_guide_goes_from_nothing_to_a_running_search_in_five_commands() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    block = re.search(r"```bash\n(.*?)```", text, re.DOTALL)
    assert block is not None
    lines = block[1].replace("\\\n", " ").splitlines()
    commands = [line.partition("  #")[0].strip() for line in lines]
    commands = [command for command in commands if command]
    assert len(commands) == 5
    assert shlex.split(commands[-1])[:3] == ["ray", "job", "submit"]
    targets = re.findall(r"make ([\w-]+)", " ".join(commands))
    assert "setup-cluster" in targets
    for name in re.findall(r"(?:deploy|experiments)/\w+\.py|\w+\.yaml", " ".join(commands)):
        assert (ROOT / name).is_file(), name
