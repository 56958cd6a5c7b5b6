"""What operators do to sales while they run: create, change, open, pause, resume, end, set stock."""

from typing import Any, Final

from litestar import Response, patch, post, put
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from fairline.runtime import logs
from fairline.sale import SaleDefinition
from fairline.store.sales import Action
from gateway.answers import AnyRequest, answer
from gateway.auth import Keyring, operator_of
from gateway.bodies import OPERATORS_LIMIT_BYTES, Body
from gateway.openapi import OPT, Doc
from gateway.problems import Problem, shown
from gateway.routes.reports import known
from gateway.sale_desk import NOT_CHANGEABLE, SaleDesk
from gateway.schemas import ActionRequest, OperatorSale, SalePatch, StockAnswer, StockRequest

_ACTIONS: Final[tuple[Action, ...]] = ("open", "pause", "resume", "end")
_SALE: Final = {200: (OperatorSale, "the sale")}


def _doc(summary: str, **more: Any) -> dict[str, Doc]:
    problems = ("recovering", *more.pop("problems", ()))
    return {OPT: Doc(tag="operators", who="operator", summary=summary, problems=problems, **more)}


_CREATE: Final = _doc(
    "Create a sale, in state draft",
    body=SaleDefinition,
    answers={201: (OperatorSale, "the new sale"), 200: (OperatorSale, "it was there already, the very same")},
    problems=("sale_exists",),
)
_PATCH: Final = _doc(
    "Change a sale while it runs",
    body=SalePatch,
    answers=_SALE,
    problems=("unknown_sale", "immutable_field", "sale_closed"),
)
_STOCK: Final = _doc(
    "Set the stock of a sku",
    body=StockRequest,
    answers={200: (StockAnswer, "Postgres has it")},
    problems=("unknown_sale", "unknown_sku", "stale_version", "stock_in_use", "sale_closed", "not_acknowledged"),
)


def operators(keyring: Keyring, desk: SaleDesk, *, body_timeout_s: float) -> list[ControllerRouterHandler]:
    """The routes, served by these."""
    limits: Any = {"limit_bytes": OPERATORS_LIMIT_BYTES, "within_s": body_timeout_s}
    new, change, stock = Body(SaleDefinition, **limits), Body(SalePatch, **limits), Body(StockRequest, **limits)
    action_body = Body(ActionRequest, **limits, may_be_empty=True)
    operator = [keyring.needs("operator")]

    @post("/admin/sales", guards=operator, opt=_CREATE)
    async def create_sale(request: AnyRequest) -> Response[bytes]:
        definition = await new.read(request.scope, request.receive)
        created = await desk.create(definition)
        _say(request, "create", definition.sale_id, changed=created)
        return answer(await desk.show(definition.sale_id), status=201 if created else 200)

    @patch("/admin/sales/{sale_id:str}", guards=operator, opt=_PATCH)
    async def change_sale(request: AnyRequest, sale_id: FromPath[str]) -> Response[bytes]:
        try:
            wanted = await change.read(request.scope, request.receive)
        except Problem as problem:
            field = problem.more.get("field")
            if problem.code == "unknown_field" and field in NOT_CHANGEABLE:
                raise Problem("immutable_field", f"This field cannot be changed: {field}", field=field) from None
            raise
        await desk.patch(known(sale_id), wanted)
        _say(request, "patch", sale_id, reason=wanted.reason)
        return answer(await desk.show(sale_id))

    @put("/admin/sales/{sale_id:str}/items/{sku:str}/stock", guards=operator, opt=_STOCK)
    async def set_stock(request: AnyRequest, sale_id: FromPath[str], sku: FromPath[str]) -> Response[bytes]:
        wanted = await stock.read(request.scope, request.receive)
        _say(request, "stock", known(sale_id), sku=shown(sku), stock=wanted.stock, version=wanted.version)
        return answer(await desk.set_stock(sale_id, sku, wanted))

    def acting(action: Action) -> ControllerRouterHandler:
        doc = _doc(
            f"{action.capitalize()} a sale",
            body=ActionRequest,
            body_required=False,
            answers=_SALE,
            problems=("unknown_sale", "illegal_move", *(("not_acknowledged",) if action == "open" else ())),
        )

        @post(
            f"/admin/sales/{{sale_id:str}}/{action}", status_code=200, guards=operator, opt=doc, name=f"{action}_sale"
        )
        async def act(request: AnyRequest, sale_id: FromPath[str]) -> Response[bytes]:
            asked = await action_body.read(request.scope, request.receive)
            changed = await desk.act(known(sale_id), action, asked.reason)
            _say(request, action, sale_id, changed=changed, reason=asked.reason)
            return answer(await desk.show(sale_id))

        return act

    return [create_sale, change_sale, set_stock, *(acting(action) for action in _ACTIONS)]


def _say(request: AnyRequest, action: str, sale_id: str, **more: object) -> None:
    logs.get(__name__).info("operator", operator=operator_of(request).name, action=action, sale=sale_id, **more)
