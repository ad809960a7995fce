# shellcheck shell=bash disable=SC2034,SC2153,SC2154
# shellcheck disable=SC1003,SC2016,SC2329  # data in single quotes is meant so; called by its index
element_0() {  # p2-test.ddq-detr-4scale
  export DDQJOBS_RUN=p2-test.ddq-detr-4scale DDQJOBS_KIND=test DDQJOBS_MODEL=ddq-detr-4scale
  export DDQJOBS_SEED='' DDQJOBS_DETERMINISTIC=0 DDQJOBS_GPUS=8 DDQJOBS_NODES=1
  export DDQJOBS_ENVIRONMENT=new-detr DDQJOBS_PYTHON=/data/environments/new-detr/bin/python
  export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
  export DDQJOBS_INPUT_CHECKPOINT="$results"/runs/p2-convert.ddq-detr-4scale/artifacts/checkpoint
  DDQJOBS_INPUTS=CHECKPOINT
  # shellcheck disable=SC2329  # called by the base script
  task() {
    cd -- "$HOME"/ddq/new/mmdetection || return 70
    export DDQJOBS_CONFIG="$PWD"/configs/ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py
    case $DDQJOBS_PYTHON in */*) PATH="${DDQJOBS_PYTHON%/*}:$PATH" ;; esac  # code trees call plain `python`
    # Our programs come from the snapshot, also where a code's own PYTHONPATH does not name it.
    case ":${PYTHONPATH:-}:" in
      *":$DDQJOBS_CODE:"*) ;;
      *) export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$DDQJOBS_CODE" ;;
    esac
    if [ -n "${DDQJOBS_ATTEMPT_DIR:-}" ]; then  # not in a shell by hand
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.proof || return $?
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.check --job configs/ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py test_evaluator.outfile_prefix="$DDQJOBS_WORK_DIR"/results || return $?
    fi
    exec bash tools/dist_test.sh configs/ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py "$DDQJOBS_INPUT_CHECKPOINT" 8 --work-dir "$DDQJOBS_WORK_DIR" --cfg-options test_evaluator.outfile_prefix="$DDQJOBS_WORK_DIR"/results
  }
}
# shellcheck disable=SC1003,SC2016,SC2329  # data in single quotes is meant so; called by its index
element_1() {  # p2-test.ddq-detr-5scale
  export DDQJOBS_RUN=p2-test.ddq-detr-5scale DDQJOBS_KIND=test DDQJOBS_MODEL=ddq-detr-5scale
  export DDQJOBS_SEED='' DDQJOBS_DETERMINISTIC=0 DDQJOBS_GPUS=8 DDQJOBS_NODES=1
  export DDQJOBS_ENVIRONMENT=new-detr DDQJOBS_PYTHON=/data/environments/new-detr/bin/python
  export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
  export DDQJOBS_INPUT_CHECKPOINT="$results"/runs/p2-convert.ddq-detr-5scale/artifacts/checkpoint
  DDQJOBS_INPUTS=CHECKPOINT
  # shellcheck disable=SC2329  # called by the base script
  task() {
    cd -- "$HOME"/ddq/new/mmdetection || return 70
    export DDQJOBS_CONFIG="$PWD"/configs/ddq/ddq-detr-5scale_r50_8xb2-12e_coco.py
    case $DDQJOBS_PYTHON in */*) PATH="${DDQJOBS_PYTHON%/*}:$PATH" ;; esac  # code trees call plain `python`
    # Our programs come from the snapshot, also where a code's own PYTHONPATH does not name it.
    case ":${PYTHONPATH:-}:" in
      *":$DDQJOBS_CODE:"*) ;;
      *) export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$DDQJOBS_CODE" ;;
    esac
    if [ -n "${DDQJOBS_ATTEMPT_DIR:-}" ]; then  # not in a shell by hand
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.proof || return $?
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.check --job configs/ddq/ddq-detr-5scale_r50_8xb2-12e_coco.py test_evaluator.outfile_prefix="$DDQJOBS_WORK_DIR"/results || return $?
    fi
    exec bash tools/dist_test.sh configs/ddq/ddq-detr-5scale_r50_8xb2-12e_coco.py "$DDQJOBS_INPUT_CHECKPOINT" 8 --work-dir "$DDQJOBS_WORK_DIR" --cfg-options test_evaluator.outfile_prefix="$DDQJOBS_WORK_DIR"/results
  }
}
# shellcheck disable=SC1003,SC2016,SC2329  # data in single quotes is meant so; called by its index
element_2() {  # p2-test.ddq-detr-swinl
  export DDQJOBS_RUN=p2-test.ddq-detr-swinl DDQJOBS_KIND=test DDQJOBS_MODEL=ddq-detr-swinl
  export DDQJOBS_SEED='' DDQJOBS_DETERMINISTIC=0 DDQJOBS_GPUS=8 DDQJOBS_NODES=1
  export DDQJOBS_ENVIRONMENT=new-detr DDQJOBS_PYTHON=/data/environments/new-detr/bin/python
  export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
  export DDQJOBS_INPUT_CHECKPOINT="$results"/runs/p2-convert.ddq-detr-swinl/artifacts/checkpoint
  DDQJOBS_INPUTS=CHECKPOINT
  # shellcheck disable=SC2329  # called by the base script
  task() {
    cd -- "$HOME"/ddq/new/mmdetection || return 70
    export DDQJOBS_CONFIG="$PWD"/configs/ddq/ddq-detr-4scale_swinl_8xb2-30e_coco.py
    case $DDQJOBS_PYTHON in */*) PATH="${DDQJOBS_PYTHON%/*}:$PATH" ;; esac  # code trees call plain `python`
    # Our programs come from the snapshot, also where a code's own PYTHONPATH does not name it.
    case ":${PYTHONPATH:-}:" in
      *":$DDQJOBS_CODE:"*) ;;
      *) export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$DDQJOBS_CODE" ;;
    esac
    if [ -n "${DDQJOBS_ATTEMPT_DIR:-}" ]; then  # not in a shell by hand
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.proof || return $?
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.check --job configs/ddq/ddq-detr-4scale_swinl_8xb2-30e_coco.py test_evaluator.outfile_prefix="$DDQJOBS_WORK_DIR"/results || return $?
    fi
    exec bash tools/dist_test.sh configs/ddq/ddq-detr-4scale_swinl_8xb2-30e_coco.py "$DDQJOBS_INPUT_CHECKPOINT" 8 --work-dir "$DDQJOBS_WORK_DIR" --cfg-options test_evaluator.outfile_prefix="$DDQJOBS_WORK_DIR"/results
  }
}
