"""`cdm webhooks`."""

from typing import Annotated

import typer

from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.cli.options import AsJson, ListsByDefault, on_service
from service.cli.output import first, tell
from service.cli.text import local, table
from service.client import AnswerLost, Client
from service.webhooks.views import Delivery

webhooks = typer.Typer(
    cls=ListsByDefault,
    help="Addresses that are told what happens to jobs. Without a command, a list.",
    rich_markup_mode=None,
)

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id, as listed: whk_...")]


@webhooks.command()
@on_service
def create(
    client: Client,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where messages are posted to.")],
    event: Annotated[
        list[str],
        typer.Option(
            "--event", metavar="TYPE|STATE", help="For example failed; may be given several times; default: all."
        ),
    ] = [],
    as_json: AsJson = False,
) -> None:
    """Have events posted to an address.

    Shows the secret for the only time. Messages are signed with it as standardwebhooks.com has it.
    """
    try:
        made = client.webhooks.create(address, event_types=event)
    except AnswerLost:
        raise CommandFailed(
            f"a webhook was made, but its secret got lost on the way: {command('webhooks delete')} it, and make another"
        ) from None
    tell(made, f"{made.secret}\n({made.id} for {made.url}; keep it: it is not shown again)", as_json=as_json)


@webhooks.command("list")
@on_service
def list_webhooks(client: Client, as_json: AsJson = False) -> None:
    """List webhooks, newest first."""
    found = list(client.webhooks.list())
    head = ("WEBHOOK", "ADDRESS", "EVENTS", "STATE", "CREATED")
    rows = (
        (
            *(one.id, one.url, ",".join(one.event_types) or "all"),
            *("on" if one.enabled else "off", local(one.created_at)),
        )
        for one in found
    )
    tell(found, table([head, *rows]) if found else "no webhooks", as_json=as_json)


@webhooks.command()
@on_service
def delete(client: Client, webhook: WebhookId, as_json: AsJson = False) -> None:
    """Delete a webhook, and what it was still to be sent."""
    client.webhooks.delete(webhook)
    tell({"deleted": webhook}, f"deleted {webhook}", as_json=as_json)


@webhooks.command()
@on_service
def ping(client: Client, webhook: WebhookId, as_json: AsJson = False) -> None:
    """Send a message that is about no job."""
    sent = client.webhooks.ping(webhook)
    words = f"{sent.id} is on its way: {command(f'webhooks deliveries {webhook}')} says what becomes of it"
    tell(sent, words, as_json=as_json)


@webhooks.command()
@on_service
def deliveries(
    client: Client,
    webhook: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what was sent and what became of it, newest first."""
    found, has_more = first(client.webhooks.deliveries(webhook, limit=limit + 1), limit)
    head = ("DELIVERY", "ABOUT", "STATE", "TRIES", "CREATED", "NEXT", "LAST ANSWER")
    words = table([head, *map(_row, found)]) if found else "nothing was sent"
    tell(found, words, as_json=as_json, has_more=has_more)


@webhooks.command()
@on_service
def replay(
    client: Client,
    webhook: WebhookId,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Its id, as listed: dlv_...")],
    as_json: AsJson = False,
) -> None:
    """Send a message again, under its id."""
    tell(client.webhooks.replay(webhook, delivery), f"{delivery} is on its way again", as_json=as_json)


def _row(delivery: Delivery) -> tuple[str, ...]:
    about = f"{delivery.job_id} {delivery.sequence}" if delivery.job_id else "ping"
    answer = delivery.last_error or (str(delivery.last_status) if delivery.last_status else "")
    return (
        *(delivery.id, about, delivery.state, str(delivery.tries)),
        *(local(delivery.created_at), local(delivery.due_at), answer),
    )
