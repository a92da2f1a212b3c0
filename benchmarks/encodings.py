# ruff: noqa: E501, RUF001 - words of 28 languages, a language a line
"""Which legacy encoding a file is in: ours, charset-normalizer's and the usual guess, on 232 made-up lists.

    python benchmarks/encodings.py

29 kinds of lists (28 languages and a mixed one), each in 8 encodings, of 3 to 300 rows. Right is the same
text, whatever the encoding is called. The words were chosen apart from those that our tables were made of.
"""

import argparse
import io
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from charset_normalizer import from_bytes

from messaging.audience.files.encodings import read_text
from messaging.audience.files.languages import words as taught_words

SIZES = [3, 5, 10, 30, 100, 300]
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")
WEST = ("cp1252", "iso8859_15", "mac_roman", "cp850")
CENTRAL = ("cp1250", "iso8859_2", "cp852", "mac_latin2")

if TYPE_CHECKING:
    from collections.abc import Callable

# Names; places; remarks.
# fmt: off
KINDS: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "Spanish": (WEST, "Begoña Ordóñez|Iñaki Zárate|Ramón Cañizares|Inés Villaseñor|Óscar Quiñones|Belén Rincón|Tomás Acuña|Nuria Bermúdez|Joaquín Piñeiro|Concepción Márquez", "Logroño|Mérida|Almería|Gijón|A Coruña|Cáceres|San Sebastián", "prefiere el correo electrónico|cumpleaños en otoño|llamará el miércoles|pagó sólo la mitad|pidió una cotización"),
    "Portuguese": (WEST, "Estêvão Romão|Otávio Lourenço|Inácio Queirós|Letícia Galvão|Vitória Mourão|Rogério Assis|Graça Leão|Zélia Abraão|Caetano Fragoso", "Florianópolis|Maceió|Santarém|Conceição do Coité|Macapá|Vitória|Guarujá|Piracicaba", "solicitou a devolução|prefere receber à tarde|ligação às três|promoção de verão|cartão já pago"),  # codespell:ignore
    "French": (WEST, "Aurélie Béranger|Cédric Maçon|Gaëtan Lévêque|Clémence Grégoire|Solène Desprès|Héloïse Rivière|Rémi Crépin|Geneviève Prévost|Mickaël Boisselé", "Béziers|Angoulême|Châteauroux|Nouméa|Sémur|Montbéliard|Périgueux", "préfère être appelée l'après-midi|a payé en espèces|déménagé à l'étranger|intéressé par la rentrée|à relancer cet été"),
    "Italian": (WEST, "Calogerò Badalà|Desirè Palmanò|Noemi Calabrò|Saverio Scirè|Vito Barillà|Barnabò Laganà|Teresa Cordì|Rocco Romanò", "Santhià|Canicattì|Patti|Trecastagni|Viggiù|Lumezzane|Novi", "richiamerà domani sarà mattina|potrà pagare giovedì|disponibilità immediata|vuole più novità|non è interessato"),
    "German": (WEST, "Götz Haußmann|Änne Grünewald|Jörn Pröll|Sören Kühn|Wärner Nößler|Heike Möbius|Hannelore Bräutigam|Uwe Küster|Sönke Hübner|Liesel Vögele", "Gießen|Schwäbisch Hall|Görlitz|Fürth|Osnabrück|Plön|Höxter", "möchte nächstes Frühjahr zurückgerufen werden|ungültig|zusätzliche Anschrift prüfen|hat gekündigt und später verlängert"),
    "Swedish": (WEST, "Åsa Björklund|Märta Sjöström|Örjan Hägg|Håkan Lööf|Jörgen Ångman|Pär Öman|Görel Rådström|Ulla Kärrman", "Norrköping|Skellefteå|Luleå|Växjö|Borås|Östersund|Linköping", "vill bli uppringd på måndag|köpte två gånger förra året|flyttar över sommaren"),  # codespell:ignore
    "Danish": (WEST, "Bøje Mørk|Åge Nørgaard|Ægidius Højlund|Kæthe Grønbæk|Jørn Kjærgaard|Solvejg Østergaard|Lærke Bråten|Gøril Sæther", "Helsingør|Rødovre|Næstved|Hillerød|Trondheim|Sandefjord|Lillestrøm", "ønsker at blive ringet op i næste måned|betalte for sent|flytter på lørdag"),
    "Finnish": (WEST, "Pirkko Hyvönen|Jyrki Räikkönen|Säde Pöysti|Tapio Kärkkäinen|Yrjö Leppälä|Sisko Ylönen|Kyösti Törmä|Hilkka Häkkinen", "Hyvinkää|Mänttä|Äänekoski|Jämsä|Ähtäri|Kärkölä|Pietarsaari", "pyysi lisätietoja ensi viikolla|ei enää töissä täällä|maksaa myöhemmin tänä vuonna"),
    "Icelandic": (("cp1252", "iso8859_1", "iso8859_15", "cp850"), "Gunnþór Hjálmarsson|Þórdís Snæbjörnsdóttir|Ægir Böðvarsson|Sæþór Magnússon|Ásdís Þráinsdóttir|Hreiðar Gíslason|Bryndís Eyþórsdóttir", "Húsavík|Egilsstaðir|Akureyri|Seyðisfjörður|Stykkishólmur|Sauðárkrókur", "vill fá símtal á þriðjudag|greiddi síðasta haust|flutti í fyrra"),  # codespell:ignore
    "English": (WEST, "Esmé Brontë-Hall|Siân Whitfield|Renée Ashworth|Niamh Ó Briain|Esmé Carlisle|Noé Hughes|Tadhg Ó Sé|Maya Naïveson", "Fishguard|Llanrhaeadr|Dún Laoghaire|Leeds|Bath|York", "met at the soirée, very keen|paid £45 in cash|wants his résumé back|prefers the pâté|owes £12"),
    "Mixed": (WEST, "Ulrike Süß|Nöel Dupré|Adán Arévalo|Bjørg Næss|Gonçalo Frazão|Zsófia Barthó|Maïté Guérin|Sixten Ståhl|Rosalbà Vezzò|Toñi Señorans|Florian Rüdiger|Élise Rochefort", "Tórshavn|Salamanca|Sankt Pölten|Liège|Vejle|Alès|Mönchengladbach|Póvoa de Varzim", "VIP|prefers e-mail|será en junio|déjà vu|kein Anschluß|trade fair, März"),
    "Polish": (CENTRAL, "Zbigniew Głowacki|Wiesława Ćwiklińska|Grzegorz Brzęczyszczykiewicz|Róża Mączyńska|Jacek Śliwiński|Bogusława Żurawska|Wacław Gołębiewski|Zdzisław Kuźniar|Mirosława Stępień", "Gdynia|Świnoujście|Zakopane Łęg|Częstochówka|Nowy Sącz|Jelenia Góra|Łomża|Oświęcim", "proszę dzwonić późnym popołudniem|zapłacił gotówką|wyjeżdża w przyszłym miesiącu|zgubiła hasło"),
    "Czech": (CENTRAL, "Oldřich Mašek|Vojtěch Křenek|Běla Řezníčková|Květoslav Hubáček|Růžena Ježková|Miloš Pospíšil|Bořivoj Žák|Ludmila Sýkorová|Přemysl Zaoral", "Třebíč|Ústí nad Orlicí|Jihlava|Poděbrady|Břeclav|České Budějovice|Kroměříž", "prosí zavolat příští týden|zaplatil převodem|stěhuje se v září|nové heslo doručeno"),
    "Slovak": (CENTRAL, "Ľudovít Hlaváč|Božidara Ťapáková|Miloslav Hríb|Žofia Ďurišová|Viliam Hrušovský|Zuzana Kráľová|Rastislav Šebík|Drahoslava Mäsiarová", "Nové Zámky|Liptovský Mikuláš|Ružomberok|Dunajská Streda|Považská Bystrica|Čadca", "prosí zavolať budúci týždeň|už zaplatené|sťahuje sa v lete|nová objednávka došla"),
    "Hungarian": (CENTRAL, "Tünde Hegedűs|Árpád Vörösmarty|Gyöngyi Lengyelfi|Ödön Pálfy|Csaba Kőszegi|Boglárka Gyűrűs|Örs Völgyi|Piroska Sződy|Tímea Fekete-Győr", "Hódmezővásárhely|Békéscsaba|Gödöllő|Érd|Dunaújváros|Kőszeg|Hajdúböszörmény", "kérjük, hétfőn hívja vissza|már kifizette a számlát|nyáron elköltözik|új jelszót kért"),
    "Romanian": (CENTRAL, "Ştefania Găvănescu|Ţuţea Brândușoiu|Octavian Ţîrlea|Sînziana Pădurariu|Fănuş Mîndruţă|Anişoara Ungureanu|Viorel Drăghici|Lăcrămioara Şerban", "Târgu Mureş|Bacău|Brăila|Galaţi|Bistriţa|Deva|Petroşani", "a plătit în numerar|va suna marţi dimineaţă|s-a mutat vara trecută|doreşte ofertă nouă"),
    "Croatian": (CENTRAL, "Krešimir Đurić|Tihomir Škarica|Mladenka Grgić|Žarko Vučković|Snježana Šimić|Hrvoje Kožul|Višnja Čavić|Ljubica Tešić", "Varaždin|Đurđevac|Slavonski Šamac|Sinj|Križevci|Čazma|Ogulin", "već plaćeno karticom|zove sljedeći tjedan|seli se u kolovozu|traži račun i ponudu, hitno šalji"),
    "Turkish": (("cp1254", "iso8859_9", "cp857", "mac_turkish"), "Gülşen Akbıyık|Ömer Taşkın|Nurşen Özyürek|Çağatay Ünlü|Şükrü Küçük|Işıl Bağcı|Tülay Gürbüz|Oğuz Büyükçınar|Halil Söğüt", "İzmir|Şırnak|Kütahya|Nevşehir|Ağrı|Düzce|Gümüşhane|Bingöl", "öğleden sonra aranacak|borcunu geçen hafta ödedi|yazın taşınıyor|yeni şifre gönderildi"),
    "Lithuanian": (("cp1257", "iso8859_13", "cp775", "iso8859_4"), "Rimvydas Stončius|Žydrūnas Pūkas|Danguolė Raštikienė|Mindaugas Čepaitis|Ugnė Žemaitienė|Šarūnė Mickevičiūtė|Vėjūnė Grušaitė|Algirdas Kėvalas", "Utena|Telšiai|Tauragė|Ukmergė|Visaginas|Biržai|Kretingėlė|Rokiškis", "prašė paskambinti kitą savaitę|jau apmokėjo sąskaitą|persikėlė pernai vasarą"),
    "Russian": (("cp1251", "koi8_r", "cp866", "mac_cyrillic"), "Геннадий Мещеряков|Лариса Пономарёва|Вячеслав Чистяков|Зинаида Логинова|Руслан Гусев|Жанна Ефимова|Ярослав Дьячков|Людмила Шубина", "Ростов-на-Дону|Уфа|Самара|Пермь|Волгоград|Омск|Ижевск", "просил перезвонить в понедельник|оплачено наличными|переехала летом|новый пароль отправлен"),
    "Ukrainian": (("cp1251", "koi8_u", "mac_cyrillic", "iso8859_5"), "Микола Гнатюк|Соломія Кравець|Богдан Мельниченко|Зоряна Лисенко|Ярина Білоус|Тарас Приходько|Орися Федишин|Євгенія Литвин", "Полтава|Житомир|Черкаси|Ужгород|Івано-Франківськ|Луцьк|Кропивницький", "просив передзвонити наступного тижня|вже сплачено готівкою|переїхала влітку|бажає нову пропозицію"),
    "Bulgarian": (("cp1251", "mac_cyrillic", "iso8859_5", "cp866"), "Красимира Велева|Здравко Младенов|Десислава Колева|Тихомир Гърбов|Росица Щилянова|Калоян Ушев|Невена Стаменова|Радослав Кънчев", "Благоевград|Велико Търново|Хасково|Ямбол|Казанлък|Плевен|Сливен", "моли да му се обадят утре следобед|вече е платил|премества се през лятото|желае нова оферта"),
    "Greek": (("cp1253", "iso8859_7", "cp737", "mac_greek"), "Θεόδωρος Μακρής|Ευτυχία Καραγιάννη|Στυλιανός Ζήσης|Φωτεινή Μπακάλη|Λάμπρος Τσιρώνης|Ξανθίππη Ρήγα|Αχιλλέας Δούκας|Χαρίκλεια Βλάχου", "Καλαμάτα|Ρόδος|Χανιά|Ιωάννινα|Καβάλα|Τρίπολη|Κέρκυρα", "ζήτησε να τον καλέσουμε αύριο|έχει ήδη πληρώσει|μετακόμισε το καλοκαίρι|θέλει νέα προσφορά"),
    "Hebrew": (("cp1255", "iso8859_8", "cp862", "utf-16-be"), "אלון גולדברג|הדס רוזן|בנימין שגיא|ליאת אוחיון|גדעון ברק|עדינה חדד|נחמן וייס|אורלי פלד", "אשדוד|רעננה|כפר סבא|נהריה|עפולה|טבריה|הרצליה", "ביקש שנתקשר מחר|כבר שילם במזומן|עברה דירה בקיץ|רוצה הצעה חדשה"),
    "Arabic": (("cp1256", "iso8859_6", "cp720", "utf-16-be"), "ياسر الحربي|نوال بنت سعيد|جمال شاهين|هند العتيبي|رشيد بوزيد|سلمى قاسم|زياد النجار|لينا منصور", "الدوحة|مسقط|طرابلس|بيروت|تونس|أبوظبي|المنامة", "طلب الاتصال غدا صباحا|دفع نقدا قبل أسبوع|انتقلت خلال الصيف|يريد عرضا جديدا"),
    "Chinese": (("gb2312", "gbk", "gb18030", "utf-32"), "欧阳建平|赖志远|尤美琪|葛长青|骆春燕|褚学军|龚雅琴|项宏伟", "沈阳|哈尔滨|昆明|贵阳|济南|石家庄|乌鲁木齐", "希望下周再联系|已经付款|夏天搬家|需要新的报价单"),
    "Taiwanese": (("big5", "cp950", "big5hkscs", "utf-16-be"), "歐陽志偉|簡淑芬|游雅婷|詹家豪|涂美玲|柯建宏|温惠君|翁世昌", "基隆|彰化|屏東|南投|宜蘭|台東|苗栗", "希望下週再聯繫|已經付款|夏天搬家|需要新的報價單"),
    "Japanese": (("shift_jis", "cp932", "euc_jp", "iso2022_jp"), "渋谷さくら|菅原ひろし|堀内まゆみ|久保田健|桜井ゆうこ|平野たけし|上野ミチル|服部あゆみ", "仙台市|札幌市|熊本|鹿児島|長崎|岐阜|つくば", "来週もう一度ご連絡ください|支払い済み|夏に引っ越し|メールは届きませんでした"),
    "Korean": (("euc_kr", "cp949", "johab", "utf-16-be"), "탁재훈|봉태규|맹소담|반기웅|피천득|사공정숙|어윤미|제갈성렬", "수원|청주|창원|포항|여수|춘천|목포", "다음 주에 다시 연락 바랍니다|이미 결제했습니다|여름에 이사했어요|새 견적을 원함"),
}
# fmt: on


def corpus() -> list[tuple[str, str, bytes, str]]:
    """Return kind, encoding, bytes and text of each file; the same ones every time."""
    files = []
    for turn, (kind, (legacy, *parts)) in enumerate(KINDS.items()):
        names, places, remarks = (part.split("|") for part in parts)
        for place, encoding in enumerate((*UNICODE, *legacy)):
            chance = random.Random(f"{kind} {encoding}")
            lines = ["Name,E-mail,City,Notes"]
            for row in range(SIZES[(turn + place) % len(SIZES)]):
                cells = [chance.choice(names), f"person{row}@example.org", chance.choice(places)]
                lines.append(",".join([*cells, f'"{chance.choice(remarks)}"']))
            text = "\r\n".join([*lines, ""])
            # What an encoding does not know was written with plain letters, as people do.
            content = "".join(as_can_be(letter, encoding) for letter in text)
            files.append((kind, encoding, content.encode(encoding), content))
    return files


def as_can_be(letter: str, encoding: str) -> str:
    """Return the letter, or its place held by a question mark."""
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return {"ș": "s", "ț": "t", "温": "溫", "ё": "е"}.get(letter, "?")
    return letter


def ours(content: bytes) -> str:
    """Read as an import does."""
    text = read_text(io.BufferedReader(io.BytesIO(content)), "list.csv", None)
    return b"".join(text.blocks).decode(errors="replace")


def ours_is_unsure(content: bytes) -> bool:
    """Say whether an import would tell the person that it guessed."""
    return bool(read_text(io.BufferedReader(io.BytesIO(content)), "list.csv", None).notes)


def normalizers(content: bytes) -> str:
    """Read as charset-normalizer says."""
    best = from_bytes(content).best()
    return str(best).removeprefix("\ufeff") if best else ""


def usual(content: bytes) -> str:
    """Read as UTF-8, else as cp1252."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def main() -> None:
    """Print who was right, and where not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="show each file that ours reads wrongly")
    arguments = parser.parse_args()
    files = corpus()
    tables = taught_words()
    taught = {word for language in tables["latin"].values() for word in language["words"].lower().split()}
    taught |= {word for language in tables["scripts"].values() for word in language.lower().split()}
    words = {word for _, _, _, text in files for word in text.lower().replace(",", " ").split()}
    known = {word for word in words & taught if not word.isascii()}
    print(f"{len(files)} files; {len(known)} of their words are in our tables: {' '.join(sorted(known))}\n")
    print("| reader | right | ms per file |\n|---|---:|---:|")
    ways: dict[str, Callable[[bytes], str]] = {
        "ours": ours,
        "charset-normalizer": normalizers,
        "UTF-8, else cp1252": usual,
    }
    for name, way in ways.items():
        started = time.process_time()
        right = [way(content) == text for _, _, content, text in files]
        milliseconds = (time.process_time() - started) / len(files) * 1_000
        print(f"| {name} | {sum(right)} of {len(files)} | {milliseconds:.1f} |")
    answers = Counter((ours(content) == text, ours_is_unsure(content)) for _, _, content, text in files)
    print(
        f"\nours: {answers[True, True]} right ones and {answers[False, True]} wrong ones are told as guesses; "
    )
    print(f"{answers[False, False]} wrong ones are not")
    if arguments.all:
        for kind, encoding, content, text in files:
            if ours(content) != text:
                said = read_text(io.BufferedReader(io.BytesIO(content)), "list.csv", None)
                print(kind, encoding, len(text), "->", said.encoding, *said.notes)


if __name__ == "__main__":
    main()
