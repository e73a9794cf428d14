#!/usr/bin/env bash
# Runs the control plane with its EC2 adapter on one computer: a small EC2 server of our own replaces Amazon's,
# and each of its machines is a guest process. Called by `make run-ec2`.
set -euo pipefail
cd "$(dirname "$0")/.."
export DATA_DIR=${DATA_DIR:-./data/on-ec2} PORT=${PORT:-8000}
mkdir -p "$DATA_DIR"
bin/ec2test -listen 127.0.0.1:4599 -dir "$DATA_DIR/ec2" -guest bin/cloudbot-guest >"$DATA_DIR/ec2.log" 2>&1 &
ec2=$!
trap 'kill $ec2 2>/dev/null; wait $ec2 2>/dev/null || true' EXIT
export LOCAL_DEV_MODE=false CONTROL_PLANE_URL=${CONTROL_PLANE_URL:-http://127.0.0.1:$PORT}
export AWS_ENDPOINT_URL=http://127.0.0.1:4599 AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
export UBUNTU_AMI_ID=ami-0123456789abcdef0 EC2_SUBNET_ID=subnet-a,subnet-b EC2_SECURITY_GROUP_ID=sg-local
echo "the cloud's log: $DATA_DIR/ec2.log, its machines: http://127.0.0.1:4599/_test/machines"
bin/cloudbot serve
