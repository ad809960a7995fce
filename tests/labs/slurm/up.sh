#!/usr/bin/env bash
# up.sh: a working Slurm cluster on one Debian machine, from bare in half a minute; root only. Also brings back
# what is down: a second call starts the daemons and nodes that do not run.
#
#   source $SLURMLAB_DIR/env.sh      afterwards: SLURM_CONF, so that squeue and the others find it
#   SLURMLAB_DIR                     the lab's folder (default: slurmlab below the temporary folder)
#   SLURMLAB_PACKAGES=no             do not install packages
#   ACCOUNTING=none, PRIVATE_QUEUE=yes, PRIVATE_ACCOUNTING=yes, ENFORCE=associations,limits, PART_LIMITS=NO
#                                    what users may know of the jobs of others, and what limits them
#   NODES CPUS GPUS MEM              size (4 virtual nodes of 48 CPUs and 8 stand-in GPUs)
#
# Nothing is shared between two labs: ports and node names follow from the folder's slot.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/labs/slurm/lib.sh
. "$HERE/lib.sh"
NODES=${NODES:-4} CPUS=${CPUS:-48} GPUS=${GPUS:-8} MEM=${MEM:-256000}
HOST=$(hostname -s)
export PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || die "needs root: virtual nodes are namespaces"

# 1. Packages, only if one is missing.
programs=(slurmctld slurmd slurmdbd sbatch munged mariadbd mariadb-install-db mariadb)
if ! command -v "${programs[@]}" > /dev/null; then
  [ "${SLURMLAB_PACKAGES:-yes}" = yes ] || die "Slurm's packages are missing"
  export DEBIAN_FRONTEND=noninteractive
  # No service may start: the packages bring daemons of their own.
  apt-get update -qq || die "apt-get update failed"
  apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Use-Pty=0 \
    slurmctld slurmd slurm-client slurmdbd munge mariadb-server-core mariadb-client-core > /dev/null \
    || die "packages could not be installed"
fi

# 2. The folder. Its slot decides ports and node names; the first free one after the folder's own hash.
umask 022
mkdir -p "$LAB"/{etc,pid,run,log,state,spool,dev}
chmod 755 "$LAB" "$LAB"/*/
if [ ! -s "$LAB/slot" ]; then
  slot=$(($(printf '%s' "$LAB" | cksum | cut -d ' ' -f 1) % 80))
  # Below 32768: ports above may be taken by anybody's outgoing connections.
  while answers $((8000 + slot * 300 + 17)) || answers $((8000 + slot * 300 + 36)); do slot=$(((slot + 1) % 80)); done
  printf '%d\n' "$slot" > "$LAB/slot"
fi
SLOT=$(< "$LAB/slot")
PORT=$((8000 + SLOT * 300)) PREFIX=lab${SLOT}n
[ -s "$LAB/etc/munge.key" ] || (umask 077; head -c 128 /dev/urandom > "$LAB/etc/munge.key")
for ((g = 0; g < GPUS; g++)); do  # gres.conf wants character devices; a link to one will do
  ln -sfn /dev/null "$LAB/dev/nvidia$g"
done

# A writable cgroup v1 memory controller gives true OUT_OF_MEMORY; else slurmstepd polls (FAILED 0:9).
# cgroup.conf always says v1: left to find out, slurmd may die on hybrid hosts even where nothing needs cgroups.
TASK=task/none
memory=/sys/fs/cgroup/memory
if [ -e $memory/memory.limit_in_bytes ] && mkdir -p "$memory/slurmlab_probe$SLOT" 2> /dev/null; then
  rmdir "$memory/slurmlab_probe$SLOT"
  TASK=task/cgroup
fi
cat > "$LAB/etc/cgroup.conf" << CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainCores=no
ConstrainDevices=no
CONF
cat > "$LAB/etc/slurm.conf" << CONF
ClusterName=ddqlab
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$((PORT + 17))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire: else a requeued job waits two minutes
AuthInfo=socket=$LAB/run/munge.sock,cred_expire=5
CredType=cred/munge
MailProg=/bin/true
MpiDefault=none
StateSaveLocation=$LAB/state
SlurmdSpoolDir=$LAB/spool/%n
SlurmctldPidFile=$LAB/run/slurmctld.pid
SlurmdPidFile=$LAB/run/slurmd.%n.pid
SlurmctldLogFile=$LAB/log/slurmctld.log
SlurmdLogFile=$LAB/log/slurmd.%n.log
# stand-in hardware: believe the CPUs and memory written below, bind nothing
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=$TASK
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
$([ $TASK = task/none ] && echo JobAcctGatherParams=OverMemoryKill)
PropagateResourceLimits=NONE
# scheduling
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,bf_continue,batch_sched_delay=1,sched_min_interval=100000,default_queue_depth=1000,bf_max_job_test=2000
PriorityType=priority/multifactor
PriorityWeightAge=1000
PriorityWeightQOS=10000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=${PART_LIMITS:-ALL}
DefMemPerCPU=1000
MaxJobCount=100000
MaxArraySize=20001
MinJobAge=${MIN_JOB_AGE:-60}
# short fuses, so that failures are seen in seconds
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
KillWait=30
InactiveLimit=0
BatchStartTimeout=60
MessageTimeout=10
CompleteWait=0
# accounting
AccountingStorageType=accounting_storage/${ACCOUNTING:-slurmdbd}
${PRIVATE_QUEUE:+PrivateData=jobs}
${ENFORCE:+AccountingStorageEnforce=$ENFORCE}
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 19))
AccountingStoragePass=$LAB/run/munge.sock
$([ "${ACCOUNTING:-}" = none ] || echo AccountingStorageTRES=gres/gpu,gres/gpu:h100)
AccountingStoreFlags=${STORE_FLAGS:-job_comment,job_env,job_script}
TrackWCKey=yes
GresTypes=gpu
NodeName=${PREFIX}[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.1.[1-$NODES] Port=[$((PORT + 201))-$((PORT + 200 + NODES))] CPUs=$CPUS Boards=1 SocketsPerBoard=2 CoresPerSocket=$((CPUS / 2)) ThreadsPerCore=1 RealMemory=$MEM Gres=gpu:h100:$GPUS Feature=h100,ib State=UNKNOWN
PartitionName=gpu   Nodes=ALL Default=YES MaxTime=7-00:00:00 DefaultTime=01:00:00 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=spot  Nodes=ALL MaxTime=7-00:00:00 DefaultTime=01:00:00 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=short Nodes=${PREFIX}1 MaxTime=00:10:00 DefaultTime=00:05:00 PriorityTier=10 PreemptMode=OFF State=UP
CONF
echo "NodeName=${PREFIX}[1-$NODES] Name=gpu Type=h100 File=$LAB/dev/nvidia[0-$((GPUS - 1))]" > "$LAB/etc/gres.conf"
(umask 077; cat > "$LAB/etc/slurmdbd.conf" << CONF
AuthType=auth/munge
AuthInfo=socket=$LAB/run/munge.sock
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((PORT + 19))
SlurmUser=root
PidFile=$LAB/run/slurmdbd.pid
LogFile=$LAB/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 36))
StorageUser=root
StorageLoc=slurm_acct_db
${PRIVATE_ACCOUNTING:+PrivateData=jobs}
TrackWCKey=yes
CONF
)
{
  cat /etc/hosts
  for ((i = 1; i <= NODES; i++)); do echo "127.0.1.$i $PREFIX$i"; done
} > "$LAB/etc/hosts"
# shellcheck disable=SC2016  # PATH is the reader's
printf 'export SLURM_CONF=%q\nexport PATH=$PATH:/usr/sbin\n' "$LAB/etc/slurm.conf" > "$LAB/env.sh"
export SLURM_CONF=$LAB/etc/slurm.conf

# 3. The daemons, each only if it does not run. Their standard input and output are nobody's, else who waits
#    for the end of our output would wait for them.
if ! alive munged; then
  munged --key-file="$LAB/etc/munge.key" --socket="$LAB/run/munge.sock" --pid-file="$LAB/run/munged.pid" \
    --log-file="$LAB/log/munged.log" --seed-file="$LAB/run/munge.seed" --num-threads=4
  cp "$LAB/run/munged.pid" "$LAB/pid/munged"
fi
if ! alive mariadbd; then
  [ -d "$LAB/mysql/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$LAB/mysql" \
    --skip-test-db --auth-root-authentication-method=normal --skip-name-resolve --innodb-log-file-size=16M \
    > "$LAB/log/install-db.log" 2>&1 || die "mariadb-install-db failed: $(tail -n 1 "$LAB/log/install-db.log")"
  setsid mariadbd --no-defaults --user=root --datadir="$LAB/mysql" --socket="$LAB/run/mysql.sock" \
    --pid-file="$LAB/run/mariadbd.pid" --bind-address=127.0.0.1 --port=$((PORT + 36)) --skip-name-resolve \
    --skip-log-bin --innodb-buffer-pool-size=256M --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --log-error="$LAB/log/mariadb.log" \
    > /dev/null 2>&1 < /dev/null &
  echo $! > "$LAB/pid/mariadbd"
  wait_for mariadb 30 mariadb --no-defaults -uroot -h127.0.0.1 -P$((PORT + 36)) -e 'select 1'
fi
# Slurm 24.11 gives up at its very first question to a fresh MariaDB 11.8, and not at the second.
accounting() { alive slurmdbd || start_accounting; answers $((PORT + 19)); }
start_accounting() {
  setsid slurmdbd -D > "$LAB/log/slurmdbd.out" 2>&1 < /dev/null &
  echo $! > "$LAB/pid/slurmdbd"
}
wait_for slurmdbd 30 accounting
if ! alive slurmctld; then
  setsid slurmctld -D > "$LAB/log/slurmctld.out" 2>&1 < /dev/null &
  echo $! > "$LAB/pid/slurmctld"
  wait_for slurmctld 30 answers $((PORT + 17))
fi

# 4. One slurmd per virtual node, with a host name and pids of its own: killing this one process is a crash
#    of the node, jobs and all.
for ((i = 1; i <= NODES; i++)); do
  node=$PREFIX$i
  alive "$node" && continue
  mkdir -p "$LAB/spool/$node"
  # shellcheck disable=SC2016  # expanded by the inner shell
  setsid unshare --uts --pid --mount --fork --kill-child --mount-proc bash -c '
    hostname "$1"; mount --bind "$2" /etc/hosts; slurmd -D -N "$1" & daemon=$!
    trap "kill \$daemon" TERM; wait $daemon; wait $daemon' node "$node" "$LAB/etc/hosts" \
    > "$LAB/log/$node.out" 2>&1 < /dev/null &
  echo $! > "$LAB/pid/$node"
done
ready() { [ "$(sinfo -h -N -p gpu -t idle,mix,alloc -o %N | wc -l)" -ge "$NODES" ]; }
wait_for "the nodes" 60 ready
printf '%d nodes of %d CPUs and %d stand-in GPUs are up after %d s: source %s/env.sh\n' \
  "$NODES" "$CPUS" "$GPUS" "$SECONDS" "$LAB"
