-- Per successful production deployment and objective: the error budget burnt from just before the deployment to the end
-- of the window after it, less what the window before it had burnt. A sample holds until the next one; one that lies
-- further back than the window says nothing. Source: metrics.md section 4, row 10.
WITH samples AS (
    SELECT service, slo, "at" AS sampled_at, error_budget_remaining AS remaining
    FROM slo_samples CROSS JOIN params WHERE "at" <= params.now
), shipped AS (
    SELECT service, deployment_key, day,
           least(coalesce(started_at, created_at), coalesce(finished_at, created_at)) AS began_at,
           coalesce(finished_at, created_at) AS ended_at
    FROM service_deployments WHERE outcome = 'success'
), pairs AS (
    SELECT shipped.*, slos.slo, began_at - span AS window_from, began_at - span - span AS base_from,
           ended_at + span AS window_to
    FROM shipped
    CROSS JOIN budget_window
    LEFT JOIN (SELECT DISTINCT service, slo FROM samples) AS slos ON slos.service = shipped.service
), before AS (
    SELECT pairs.*, before.sampled_at AS before_at, before.remaining AS remaining_before
    FROM pairs ASOF LEFT JOIN samples AS before
      ON before.service = pairs.service AND before.slo = pairs.slo AND before.sampled_at <= pairs.began_at
), after AS (
    SELECT before.*, after.sampled_at AS after_at, after.remaining AS remaining_after
    FROM before ASOF LEFT JOIN samples AS after
      ON after.service = before.service AND after.slo = before.slo AND after.sampled_at <= before.window_to
), based AS (
    SELECT after.*, base.sampled_at AS last_at, base.remaining AS last_remaining
    FROM after ASOF LEFT JOIN samples AS base
      ON base.service = after.service AND base.slo = after.slo AND base.sampled_at <= after.window_from
), opened AS (
    -- Where nothing is known of the moment at which the window before opened, its first sample stands for it.
    SELECT based.*, first.sampled_at AS first_at, first.remaining AS first_remaining
    FROM based ASOF LEFT JOIN samples AS first
      ON first.service = based.service AND first.slo = based.slo AND first.sampled_at >= based.window_from
), known AS (
    SELECT opened.*,
           CASE WHEN last_at >= base_from THEN last_at ELSE first_at END AS base_at,
           CASE WHEN last_at >= base_from THEN last_remaining ELSE first_remaining END AS remaining_base,
           CASE WHEN slo IS NULL THEN 'no_slo'
                WHEN window_to > params.now THEN 'window_open'
                WHEN before_at IS NULL OR before_at < window_from THEN 'no_sample_before'
                WHEN after_at IS NULL OR after_at <= began_at THEN 'no_sample_after' END AS excluded
    FROM opened CROSS JOIN params
)
SELECT service, deployment_key, slo, day, began_at, ended_at, base_at, before_at, after_at,
       remaining_base, remaining_before, remaining_after, excluded,
       CASE WHEN excluded IS NULL THEN
           CAST(round((remaining_before - remaining_after) * 1e12) AS BIGINT)
         - CAST(round((remaining_base - remaining_before) * 1e12) AS BIGINT) END AS impact_trillionths
FROM known
