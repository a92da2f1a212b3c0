-- PostgreSQL's image runs this once, when its volume is empty. The other database, outflow, it makes itself.
CREATE DATABASE prefect OWNER outflow;
