import re

from config.devstack.state import PROJECT

READ = re.compile(r'(?:env\.\w+|usdc)\(\s*"([A-Z_]+)"')


class TestSettingsPage:
    def test_names_every_setting_there_is(self) -> None:
        read = set(READ.findall((PROJECT / "config" / "settings.py").read_text()))
        page = (PROJECT / "docs" / "settings.md").read_text()

        assert len(read) > 80
        assert sorted(name for name in read if f"`{name}`" not in page) == []
