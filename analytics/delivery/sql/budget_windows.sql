-- Per successful production deployment and objective of its service: the window before it, the one before that and the
-- one after it. A service without an objective has one row without.
WITH shipped AS (
    SELECT service, deployment_key, day,
           least(coalesce(started_at, created_at), coalesce(finished_at, created_at)) AS began_at,
           coalesce(finished_at, created_at) AS ended_at
    FROM budget_deployments
    WHERE outcome = 'success'
), placed AS (
    SELECT shipped.service AS service, shipped.deployment_key AS deployment_key, shipped.day AS day,
           shipped.began_at AS began_at, shipped.ended_at AS ended_at,
           us_between(params.now, shipped.began_at) AS began_us, us_between(params.now, shipped.ended_at) AS ended_us
    FROM shipped
    CROSS JOIN params
)
SELECT placed.service AS service, placed.deployment_key AS deployment_key, slos.slo AS slo, placed.day AS day,
       placed.began_at AS began_at, placed.ended_at AS ended_at, placed.began_us AS began_us,
       placed.began_us - budget_window.span_us AS window_from_us,
       placed.began_us - budget_window.span_us - budget_window.span_us AS base_from_us,
       placed.ended_us + budget_window.span_us AS window_to_us
FROM placed
CROSS JOIN budget_window
LEFT JOIN (SELECT DISTINCT service, slo FROM budget_samples) AS slos ON slos.service = placed.service
