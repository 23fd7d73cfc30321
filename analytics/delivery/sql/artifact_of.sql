-- One row per digest that was recorded or deployed: the first name of its artifact, and of which commit of which
-- repository it was built, as its record says and as verified provenance says.
WITH ordered AS (
    SELECT digest, name, repository, sha,
           row_number() OVER (
               PARTITION BY digest ORDER BY CASE WHEN sha IS NULL THEN 1 ELSE 0 END, name
           ) AS sha_place,
           row_number() OVER (
               PARTITION BY digest ORDER BY CASE WHEN sha IS NULL OR repository IS NULL THEN 1 ELSE 0 END, name
           ) AS repository_place
    FROM artifacts
), recorded AS (
    SELECT digest, min(name) AS name,
           max(CASE WHEN repository_place = 1 AND sha IS NOT NULL THEN repository END) AS repository,
           max(CASE WHEN sha_place = 1 THEN sha END) AS sha
    FROM ordered
    GROUP BY digest
), named AS (
    SELECT DISTINCT digest
    FROM (
        SELECT digest FROM artifacts
        UNION ALL
        SELECT digest FROM deployments WHERE digest IS NOT NULL
    ) AS stated
)
SELECT named.digest AS digest, recorded.name AS name, recorded.repository AS repository, recorded.sha AS sha,
       coalesce(proven.repository, recorded.repository) AS built_in
FROM named
LEFT JOIN recorded ON recorded.digest = named.digest
LEFT JOIN proven_repositories AS proven ON proven.digest = lower(named.digest)
