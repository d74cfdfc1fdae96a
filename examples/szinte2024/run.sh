#!/usr/bin/env bash
# Leave one sweep out, four times, beside two controls; run it from anywhere, with the study's folder in CORTEXFLOW_DATA.
#   cortexflow data fetch szinte2024 --to data/szinte2024 && CORTEXFLOW_DATA=data examples/szinte2024/run.sh runs/szinte2024
set -euo pipefail
out=${1:?give a folder for the results}
config=$(dirname "$0")/run.yaml

for control in none on_off shuffled; do
    for lead in 2.634 0; do
        for sweep in 0 1 2 3; do
            cortexflow train --config "$config" --out "$out/$control-lead$lead-$sweep" --resume \
                -s data.held_out_sweep=$sweep -s data.control=$control -s data.lead=$lead
        done
        cortexflow evaluate "$out/$control-lead$lead"-[0-3] --out "$out/$control-lead$lead"
    done
done
cortexflow report "$out/none-lead2.634"
