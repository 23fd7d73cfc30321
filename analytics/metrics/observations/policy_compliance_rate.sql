-- One row per successful production deployment, with the outcome of each control that its policy requires.
-- Source: metrics.md section 4, row 12.
SELECT deployed.service AS subject,
       deployed.day AS day,
       CASE WHEN deployed.outcome <> 'success' THEN deployed.outcome
            WHEN verified.deployment_key IS NULL THEN 'not_verified'
            WHEN held.controls IS NULL THEN 'no_required_controls'
            WHEN held.passed + held.not_evaluated = held.controls AND held.not_evaluated > 0 THEN 'not_evaluated'
       END AS excluded,
       CASE WHEN held.passed = held.controls THEN 1 ELSE 0 END AS numerator,
       1 AS denominator,
       deployed.deployment_key AS deployment_key,
       deployed.sha AS sha,
       deployed.finished_at AS finished_at,
       held.signature AS signature,
       held.attestation AS attestation,
       held.sbom AS sbom,
       held.review AS review,
       held.separation_of_duties AS separation_of_duties,
       held.approval AS approval,
       held.change_ticket AS change_ticket
FROM service_deployments AS deployed
LEFT JOIN (
    SELECT service, deployment_key,
           count(*) AS controls,
           sum(CASE WHEN outcome = 'passed' THEN 1 ELSE 0 END) AS passed,
           sum(CASE WHEN outcome = 'not_evaluated' THEN 1 ELSE 0 END) AS not_evaluated,
           max(CASE WHEN control = 'signature' THEN outcome END) AS signature,
           max(CASE WHEN control = 'attestation' THEN outcome END) AS attestation,
           max(CASE WHEN control = 'sbom' THEN outcome END) AS sbom,
           max(CASE WHEN control = 'review' THEN outcome END) AS review,
           max(CASE WHEN control = 'separation_of_duties' THEN outcome END) AS separation_of_duties,
           max(CASE WHEN control = 'approval' THEN outcome END) AS approval,
           max(CASE WHEN control = 'change_ticket' THEN outcome END) AS change_ticket
    FROM deployment_controls
    GROUP BY service, deployment_key
) AS held ON held.service = deployed.service AND held.deployment_key = deployed.deployment_key
LEFT JOIN (
    SELECT DISTINCT service, deployment_key FROM deployment_provenance
) AS verified ON verified.service = deployed.service AND verified.deployment_key = deployed.deployment_key
