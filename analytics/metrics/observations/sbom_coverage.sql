-- One row per successful production deployment, marked when every artifact that it shipped is covered.
-- Source: contract.md section 5 (ratio of production deployments).
SELECT deployed.service AS subject,
       deployed.day AS day,
       CASE WHEN deployed.outcome <> 'success' THEN deployed.outcome
            WHEN shipped.artifacts IS NULL THEN 'not_verified' END AS excluded,
       CASE WHEN shipped.covered = shipped.artifacts THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       deployed.deployment_key AS deployment_key,
       deployed.sha AS sha,
       deployed.finished_at AS finished_at,
       shipped.artifacts AS artifacts,
       shipped.covered AS covered,
       shipped.verdict AS verdict
FROM service_deployments AS deployed
LEFT JOIN (
    SELECT service, deployment_key, count(*) AS artifacts, max(verdict) AS verdict,
           sum(CASE WHEN sbom THEN 1 ELSE 0 END) AS covered
    FROM deployment_provenance
    GROUP BY service, deployment_key
) AS shipped ON shipped.service = deployed.service AND shipped.deployment_key = deployed.deployment_key
