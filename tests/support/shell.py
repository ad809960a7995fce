"""An experiment with a run to enter with ``ddqjobs shell``."""

TREE = """
name: tiny
implementations: {}
codes:
  shell: {path: ., variables: {MINE: "a b'{run}", PYTHONPATH: "mine:{env.PYTHONPATH}"}}
models: {}
variants: {default: {seed: 7}}
tasks:
  data:
    {kind: smoke, once: true, code: shell, products: {d: d},
     command: [sh, -c, 'echo x > "$DDQJOBS_WORK_DIR/d"']}
  train:
    {kind: smoke, once: true, code: shell, seeds: [7], inputs: {data: data.d}, products: {o: o},
     command: [sh, -c, 'cp "$1" "$DDQJOBS_WORK_DIR/o"; echo seed "$DDQJOBS_SEED"', sh, "{input.data}"]}
"""
RUN = "train.s7"
