from __future__ import annotations

from pathlib import Path

from analytics.catalog import load_catalog
from analytics.sources.service_names import ServiceNames


def test_the_settings_win_over_the_catalog_and_the_first_known_name_counts() -> None:
    names = ServiceNames({"Checkout API": "till"}, {"checkout api": "shop", "shop": "shop"})
    assert names.of("CHECKOUT api ") == "till"
    assert names.of("elsewhere", None, 7, "Shop") == "shop"
    assert names.of("elsewhere") is None
    assert ServiceNames().of("shop") is None


def test_aliases_come_from_the_catalog_and_from_backstage_and_an_own_name_wins(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(
        "services: [{name: shop, repository: acme/shop, aliases: [PSHOP, till]}, {name: till, repository: acme/till}]"
    )
    (tmp_path / "catalog-info.yaml").write_text(
        "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: pricing\n  annotations:\n"
        "    github.com/project-slug: acme/pricing\n    pagerduty.com/service-id: PPRICE\n"
        "    jira/component: Prices\n    quarterdeck/aliases: price, prices-v2\nspec: {owner: team-a}\n"
    )
    names = load_catalog([tmp_path / "catalog.yaml", tmp_path / "catalog-info.yaml"]).names()
    assert names == {
        "PSHOP": "shop", "till": "till", "shop": "shop", "pricing": "pricing",
        "PPRICE": "pricing", "Prices": "pricing", "price": "pricing", "prices-v2": "pricing",
    }  # fmt: skip
