#!/usr/bin/env bash
# One model over the GPUs of several nodes, by Ray. On the first node, whose address the others reach:
#   bash deploy/ray_node.sh first NODES MODEL [options of dca-hub serve]
# and on each of the others, before or after:
#   bash deploy/ray_node.sh other FIRST_NODE
# Each node has the same environment (or the image dca-hub-vllm, with --network host --ipc host --gpus all and this as its
# entry point). Ray has no password: let the nodes' ports be reached by each other alone.
set -euo pipefail
port=${RAY_PORT:-6379}
usage() { sed -n '2,8s/^# //p' "$0" >&2; exit 2; }

case "${1:-}" in
first)
    [ $# -ge 3 ] || usage
    nodes=$2
    shift 2
    ray start --head --port "$port"
    trap 'ray stop' EXIT
    until [ "$(python3 -c "import ray; ray.init(address='auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))" 2>/dev/null)" -ge "$nodes" ]; do
        echo "waiting for $nodes nodes, after $SECONDS s" >&2
        sleep 5
    done
    dca-hub serve "$@" --vllm="--distributed-executor-backend ray ${VLLM_OPTIONS:-}"
    ;;
other)
    [ $# -eq 2 ] || usage
    until ray start --address "$2:$port" --block; do
        echo "waiting for the first node at $2:$port, after $SECONDS s" >&2
        sleep 5
    done
    ;;
*) usage ;;
esac
