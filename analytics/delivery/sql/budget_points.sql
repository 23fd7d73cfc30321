-- The samples that hold at the edges of each deployment's windows. Samples and edges are ordered by time together, and
-- the greatest sample so far is the one that holds: one sort, where a join by range would pair each edge with all.
WITH points AS (
    SELECT service, slo, CAST(NULL AS String) AS deployment_key, 'sample' AS point, sampled_us AS at_us, sampled_us
    FROM budget_samples
    UNION ALL
    SELECT service, slo, deployment_key, 'before' AS point, began_us AS at_us, CAST(NULL AS BIGINT) AS sampled_us
    FROM budget_windows WHERE slo IS NOT NULL
    UNION ALL
    SELECT service, slo, deployment_key, 'after' AS point, window_to_us AS at_us, CAST(NULL AS BIGINT) AS sampled_us
    FROM budget_windows WHERE slo IS NOT NULL
    UNION ALL
    SELECT service, slo, deployment_key, 'base' AS point, window_from_us AS at_us, CAST(NULL AS BIGINT) AS sampled_us
    FROM budget_windows WHERE slo IS NOT NULL
), held AS (
    SELECT service, slo, deployment_key, point,
           max(sampled_us) OVER (PARTITION BY service, slo ORDER BY at_us) AS last_us,
           min(sampled_us) OVER (PARTITION BY service, slo ORDER BY at_us DESC) AS next_us
    FROM points
)
SELECT service, slo, deployment_key,
       max(CASE WHEN point = 'before' THEN last_us END) AS before_us,
       max(CASE WHEN point = 'after' THEN last_us END) AS after_us,
       max(CASE WHEN point = 'base' THEN last_us END) AS last_us,
       max(CASE WHEN point = 'base' THEN next_us END) AS next_us
FROM held
WHERE point <> 'sample'
GROUP BY service, slo, deployment_key
