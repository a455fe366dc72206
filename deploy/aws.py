"""Once for an AWS account: the bucket and the rights that cluster.yaml names.

    .venv/bin/python deploy/aws.py [cluster.yaml]

Machines of the cluster may then start others of it and write to this one bucket. What is there
already stays, so a second run changes nothing. Needs boto3 and the credentials that it finds.
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


def main(file: str = "cluster.yaml") -> None:
    config = yaml.safe_load(Path(file).read_text())
    named = config["metadata"]
    found = re.search(r"s3://([a-z0-9.-]+)", named["storage"])
    if found is None:
        sys.exit(f"{file}: storage names no bucket: EDIT 2/3, as s3://my-bucket/runs")
    bucket, profile = found[1], named["profile"]["IamInstanceProfile"]["Name"]
    make_bucket(bucket, named["region"])
    make_profile(profile, bucket)
    print(f"bucket {bucket} in {named['region']}, instance profile {profile}: ready")


def make_bucket(name: str, region: str) -> None:
    s3 = boto3.client("s3", region_name=region)
    # us-east-1 is the one region that must not be named
    where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with_name: dict[str, Any] = {"Bucket": name, **(where if region != "us-east-1" else {})}
    once(lambda: s3.create_bucket(**with_name), "BucketAlreadyOwnedByYou")


def make_profile(name: str, bucket: str) -> None:
    iam = boto3.client("iam")
    trusted = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    who = statement({**trusted, "Principal": {"Service": "ec2.amazonaws.com"}})
    once(lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=who))
    role = iam.get_role(RoleName=name)["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonEC2FullAccess")
    rights = statement(
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role},  # to the workers
        {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "*"},  # names the image
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
    )
    iam.put_role_policy(RoleName=name, PolicyName="raynas", PolicyDocument=rights)
    once(lambda: iam.create_instance_profile(InstanceProfileName=name))
    once(
        lambda: iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name),
        "LimitExceeded",  # a profile holds one role: ours
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
