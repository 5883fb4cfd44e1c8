#!/usr/bin/env bash
# Start a Slurm of one node on this machine, run the tests that submit to it, and stop it again.
#
#   tests/slurm/run.sh PYTHON [options of pytest]
#
# For root on a Debian or Ubuntu machine or container that may be changed: Slurm and munge are
# installed from the distribution where they are not there, and /etc/slurm has a configuration while
# the tests run ($SLURM_CONF does not reach job steps). Everything else is in a temporary folder.
# The node says that it has two GPUs; nothing is done with them.
set -euo pipefail

python=$1
shift
repository=$(cd "$(dirname "$0")/../.." && pwd)

if [ "$(id -u)" != 0 ]; then
    echo "tests/slurm/run.sh: only root can install and start Slurm" >&2
    exit 2
fi
if [ -e /etc/slurm/slurm.conf ]; then
    echo "tests/slurm/run.sh: this machine has a Slurm of its own: /etc/slurm/slurm.conf" >&2
    exit 2
fi
if ! type slurmctld slurmd munged sbatch > /dev/null 2>&1; then
    echo "==> installing Slurm"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurmctld slurmd slurm-client munge
fi

here=$(mktemp -d)
configuration=(/etc/slurm/{slurm,gres,cgroup}.conf)
daemons=()
stop() {
    [ ${#daemons[@]} = 0 ] || kill "${daemons[@]}" 2> /dev/null || true
    wait
    rm -rf "$here" "${configuration[@]}"
}
trap stop EXIT

echo "==> starting Slurm in $here"
host=$(hostname -s)
unset SLURM_CONF
hardware=$(slurmd -C | grep -o 'CPUs=.*RealMemory=[0-9]*')
mkdir -p "$here/state" "$here/spool" /etc/slurm
chmod 755 "$here"
cat > /etc/slurm/slurm.conf << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge.socket
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2
MpiDefault=none
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 $hardware Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
touch "$here/gpu0" "$here/gpu1"
echo "Name=gpu File=$here/gpu[0-1]" > /etc/slurm/gres.conf
case $(slurmctld -V) in
    *" 2"[0-2].*) ;;
    *) echo "CgroupPlugin=disabled" > /etc/slurm/cgroup.conf ;;
esac

(umask 077 && head -c 1024 /dev/urandom > "$here/munge.key")
munged --foreground --force --key-file="$here/munge.key" --socket="$here/munge.socket" \
    --pid-file="$here/munged.pid" --seed-file="$here/munge.seed" 2> "$here/munged.log" &
daemons+=($!)
for _ in $(seq 100); do [ -S "$here/munge.socket" ] && break || sleep 0.1; done
slurmctld -D 2> "$here/slurmctld.log" &
daemons+=($!)
slurmd -D 2> "$here/slurmd.log" &
daemons+=($!)
for _ in $(seq 100); do
    sinfo --noheader --format=%t 2> /dev/null | grep -qx idle && break || sleep 0.3
done
if ! sinfo --noheader --format=%t | grep -qx idle; then
    echo "tests/slurm/run.sh: the node did not come up" >&2
    tail -n 20 "$here"/*.log >&2
    exit 1
fi
sinfo

cd "$repository"
QAPRUNE_SLURM=1 "$python" -m pytest tests/slurm "$@"
