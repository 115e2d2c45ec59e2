"""Run by alembic: works on the connection that `database.upgrade` hands over, inside its transaction."""

from alembic import context

from cuvee.competition.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
