DROP TABLE container_members;
