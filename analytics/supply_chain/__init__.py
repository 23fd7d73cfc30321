"""Whether what was deployed is what was built: bundles, certificates, policy, SBOMs, findings and waivers."""
