-- What gates said of runs up to the cut-off, under the catalog's spelling of the repository.
-- Source: metrics.md section 4, row 11.
SELECT CASE WHEN names.known THEN names.canonical ELSE '' END AS repository,
       results.run_id AS run_id,
       results.gate AS gate,
       results.outcome AS outcome,
       lower(results.resolution) AS resolution,
       results.at AS judged_at,
       local_day(results.at) AS day,
       names.known AS known
FROM gate_results AS results
JOIN gate_repositories AS names ON names.seen = results.repository
CROSS JOIN params
WHERE results.at <= params.now
