-- What was left of each objective's error budget. Moments are counted from the cut-off, in microseconds: a window is
-- then a number that is added, on every engine.
SELECT samples.service AS service, samples.slo AS slo, samples.at AS sampled_at,
       us_between(params.now, samples.at) AS sampled_us, samples.error_budget_remaining AS remaining
FROM slo_samples AS samples
CROSS JOIN params
WHERE samples.at <= params.now
