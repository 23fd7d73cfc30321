-- Per successful production deployment and objective: the error budget burnt from just before the deployment to the end
-- of the window after it, less what the window before it had burnt. A sample holds until the next one; one that lies
-- further back than the window says nothing. Source: metrics.md section 4, row 10.
WITH edges AS (
    -- Where nothing is known of the moment at which the window before opened, its first sample stands for it.
    SELECT windows.service AS service, windows.deployment_key AS deployment_key, windows.slo AS slo,
           windows.day AS day, windows.began_at AS began_at, windows.ended_at AS ended_at, points.before_us AS before_us,
           points.after_us AS after_us,
           CASE WHEN points.last_us >= windows.base_from_us THEN points.last_us ELSE points.next_us END AS base_us,
           CASE WHEN windows.slo IS NULL THEN 'no_slo'
                WHEN windows.window_to_us > 0 THEN 'window_open'
                WHEN points.before_us IS NULL OR points.before_us < windows.window_from_us THEN 'no_sample_before'
                WHEN points.after_us IS NULL OR points.after_us <= windows.began_us THEN 'no_sample_after'
           END AS excluded
    FROM budget_windows AS windows
    LEFT JOIN budget_points AS points
      ON points.service = windows.service AND points.deployment_key = windows.deployment_key
     AND points.slo = windows.slo
)
SELECT edges.service AS service, edges.deployment_key AS deployment_key, edges.slo AS slo, edges.day AS day,
       edges.began_at AS began_at, edges.ended_at AS ended_at, base.sampled_at AS base_at,
       before.sampled_at AS before_at, after.sampled_at AS after_at, base.remaining AS remaining_base,
       before.remaining AS remaining_before, after.remaining AS remaining_after, edges.excluded AS excluded,
       CASE WHEN edges.excluded IS NULL THEN
           CAST(round((before.remaining - after.remaining) * 1e12) AS BIGINT)
         - CAST(round((base.remaining - before.remaining) * 1e12) AS BIGINT) END AS impact_trillionths
FROM edges
LEFT JOIN budget_samples AS before
  ON before.service = edges.service AND before.slo = edges.slo AND before.sampled_us = edges.before_us
LEFT JOIN budget_samples AS after
  ON after.service = edges.service AND after.slo = edges.slo AND after.sampled_us = edges.after_us
LEFT JOIN budget_samples AS base
  ON base.service = edges.service AND base.slo = edges.slo AND base.sampled_us = edges.base_us
