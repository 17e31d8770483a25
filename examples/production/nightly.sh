#!/bin/sh
# Every night: what the server stored becomes training data, and the adapter goes on learning from it.
#
#   sh examples/production/nightly.sh examples/production/shop.yaml
#
# 1. Stored events are written beside the shop's own files of events.
# 2. All of them are prepared again; validation and test are now the newest events.
# 3. The adapter in use is validated on them and trained on; the new version is the best of these validations. Running
#    servers of the run folder take it over by themselves, without dropping a request.
# 4. The new version is evaluated on the test split. To go back: POST /v1/adapters/rollback.
#
# A night without new events ends at step 3 with exit code 1 and changes nothing that is in use.
# WHEREUPON: the command, if it is not on the path. SETTINGS: more --set options for all steps.
set -eu

config=$1
whereupon=${WHEREUPON:-whereupon}
settings=${SETTINGS:-}
folder=$(dirname "$config")
run=${RUN:-$folder/runs/shop}

$whereupon export-events "$config" -o "$folder/events/stored.csv" $settings
$whereupon prepare "$config" $settings
before=$(cat "$run/adapters/CURRENT")
$whereupon finetune "$config" --from "$before" --set finetune.epochs=1 --set finetune.learning_rate=3e-4 $settings
after=$(cat "$run/adapters/CURRENT")
$whereupon evaluate "$config" $settings

if grep -q '"step": 0,' "$run/adapters/$after/whereupon.json"; then
  echo "nothing was better than adapter $before on the newest events"
else
  echo "adapter $after is better than $before on the newest events: servers use it now"
fi
