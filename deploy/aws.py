"""Once for an AWS account: the bucket and the rights that cluster.yaml names.

    .venv/bin/python deploy/aws.py [cluster.yaml]

Machines of the cluster may then read and write this one bucket. The head may also start machines in
the cluster's region that carry the cluster's tag, hand them the workers' rights, and end those that
carry the tag. Nothing may do more: the keys, networks and groups that a cluster needs are made by
`ray up`, with the credentials of whoever calls it. What is there already stays, so a second run
changes nothing; rights that an earlier version gave are taken back. Needs boto3 and the credentials
that it finds.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ClientError

#: by which Ray knows the machines of a cluster
CLUSTER_TAG = "ray-cluster-name"
#: what a head looks up, none of which changes anything
LOOKS = ["ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceTypes"]
#: of machines that an earlier version of this file made
FORMER_POLICY = "arn:aws:iam::aws:policy/AmazonEC2FullAccess"


def main(file: str = "cluster.yaml") -> None:
    config = yaml.safe_load(Path(file).read_text())
    named = config["metadata"]
    found = re.search(r"s3://([a-z0-9.-]+)", named["storage"])
    if found is None:
        sys.exit(f"{file}: storage names no bucket: EDIT 2/3, as s3://my-bucket/runs")
    bucket, region = found[1], named["region"]
    head, worker = (
        named[key]["IamInstanceProfile"]["Name"] for key in ("profile", "worker_profile")
    )
    make_bucket(bucket, region)
    worker_role = make_profile(worker, bucket_rights(bucket))
    machine_rights = head_rights(config["cluster_name"], region, worker_role)
    make_profile(head, [*bucket_rights(bucket), *machine_rights])
    allow_spot()
    print(f"bucket {bucket} in {region}, instance profiles {head} and {worker}: ready")


def make_bucket(name: str, region: str) -> None:
    s3 = boto3.client("s3", region_name=region)
    # us-east-1 is the one region that must not be named
    where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with_name: dict[str, Any] = {"Bucket": name, **(where if region != "us-east-1" else {})}
    once(lambda: s3.create_bucket(**with_name), "BucketAlreadyOwnedByYou")


def make_profile(name: str, rights: list[dict[str, Any]]) -> str:
    """Make an instance profile with a role of the same name, and return the role's ARN."""
    iam = boto3.client("iam")
    trusted = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    who = statement({**trusted, "Principal": {"Service": "ec2.amazonaws.com"}})
    once(lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=who))
    once(lambda: iam.detach_role_policy(RoleName=name, PolicyArn=FORMER_POLICY), "NoSuchEntity")
    iam.put_role_policy(RoleName=name, PolicyName="raynas", PolicyDocument=statement(*rights))
    once(lambda: iam.create_instance_profile(InstanceProfileName=name))
    once(
        lambda: iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name),
        "LimitExceeded",  # a profile holds one role: ours
    )
    arn: str = iam.get_role(RoleName=name)["Role"]["Arn"]
    return arn


def bucket_rights(bucket: str) -> list[dict[str, Any]]:
    """To read and write runs."""
    return [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": f"arn:aws:s3:::{bucket}",
        },
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        },
    ]


def head_rights(cluster: str, region: str, worker_role: str) -> list[dict[str, Any]]:
    """To start and end the machines of a cluster, which Ray tags with its name."""
    account = worker_role.split(":")[4]
    machines = f"arn:aws:ec2:{region}:{account}:instance/*"
    of_cluster = {f"aws:ResourceTag/{CLUSTER_TAG}": cluster}
    parts = ("network-interface", "security-group", "subnet", "volume", "key-pair",
             "spot-instances-request")  # fmt: skip
    return [
        {"Effect": "Allow", "Action": LOOKS, "Resource": "*"},  # EC2 knows no narrower looks
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "Resource": machines,
            "Condition": {"StringEquals": {f"aws:RequestTag/{CLUSTER_TAG}": cluster}},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",  # what a machine is made of
            "Resource": [
                *(f"arn:aws:ec2:{region}:{account}:{part}/*" for part in parts),
                f"arn:aws:ec2:{region}::image/*",
                f"arn:aws:ec2:{region}:{account}:image/*",
            ],
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": machines,
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:CreateTags", "ec2:TerminateInstances"],
            "Resource": machines,
            "Condition": {"StringEquals": of_cluster},
        },
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": worker_role,
            "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        },
        {
            "Effect": "Allow",
            "Action": "ssm:GetParameters",  # names the newest image
            "Resource": f"arn:aws:ssm:{region}::parameter/aws/service/*",
        },
    ]


def allow_spot() -> None:
    """Make the role by which EC2 starts spot machines, as any account that had one has it."""
    iam = boto3.client("iam")
    once(
        lambda: iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com"), "InvalidInput"
    )


def statement(*parts: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": parts})


def once(make: Any, *there: str) -> None:
    """Errors that say that it exists are none."""
    try:
        make()
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"EntityAlreadyExists", *there}:
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
