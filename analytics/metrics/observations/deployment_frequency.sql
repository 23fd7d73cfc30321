-- One row per successful production deployment of any kind; before the service's first covered day there is no day to
-- divide by. Source: metrics.md section 2, deployment frequency, and section 8, collected.
SELECT deployed.service AS subject,
       deployed.day AS day,
       CASE WHEN deployed.outcome <> 'success' THEN deployed.outcome
            WHEN deployed.day < services.since THEN 'before_since' END AS excluded,
       1 AS numerator,
       deployed.deployment_key AS deployment_key,
       deployed.kind AS kind,
       deployed.repository AS repository,
       deployed.sha AS sha,
       deployed.environment AS environment,
       deployed.created_at AS created_at,
       deployed.started_at AS started_at,
       deployed.finished_at AS finished_at,
       deployed.finish_unknown AS finish_unknown,
       deployed.warning AS warning
FROM service_deployments AS deployed
LEFT JOIN services ON services.service = deployed.service
