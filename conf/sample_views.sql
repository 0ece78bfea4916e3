-- The sample's tables under their names, for one session of spark-sql started in the repository's root.
CREATE TEMPORARY VIEW ads USING delta OPTIONS (path 'local/sample/ads');
CREATE TEMPORARY VIEW recommendations USING delta OPTIONS (path 'local/sample/tables/recommendations');
CREATE TEMPORARY VIEW matches USING delta OPTIONS (path 'local/sample/tables/matches');
CREATE TEMPORARY VIEW quarantine USING delta OPTIONS (path 'local/sample/tables/quarantine');
CREATE TEMPORARY VIEW runs USING delta OPTIONS (path 'local/sample/tables/runs');
