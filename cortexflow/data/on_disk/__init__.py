"""Reading what lies on disk: pictures, tables, volumes, responses, and files of published studies."""
