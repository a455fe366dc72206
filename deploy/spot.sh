#!/usr/bin/env bash
# Tells Ray that this spot machine is about to be taken back, once EC2 says so, two minutes before: its
# trials are handed on and it gets no others. On machines that stay it waits for good.
# usage: deploy/spot.sh HEAD:6379            (a worker's start command of cluster.yaml, in the background)
set -u
metadata=${METADATA:-http://169.254.169.254}

notice() {
  local token
  token=$(curl -sf -m 2 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/latest/api/token") &&
    curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" \
      "$metadata/latest/meta-data/spot/instance-action"
}

until notice; do sleep "${PERIOD:-5}"; done
until ray drain-node --address "$1" --reason DRAIN_NODE_REASON_PREEMPTION \
  --reason-message "EC2 takes this spot machine back" --deadline-remaining-seconds 110; do
  sleep "${PERIOD:-5}"
done
