"""The words that may stand in an answer beside its mathematics without changing it: allow-lists, no deny-lists.

What is on no list makes an answer unparsed, so a list may be incomplete and must not be wrong: no word here scales a
number, negates, bounds or compares it. Lower case, in classes that :mod:`rewards.verifiers.prose` tells apart.
"""

from __future__ import annotations

_SAYING_NOTHING = """
a about all also altogether amount amounts an answer answers approximately are as at be because been being believe by
calculate calculated calculating calculation came can choose come comes computed computing conclude concludes correct
currently did do does during each enough equal equals equation evaluate evaluated every exactly explained
explanation expression final finally find finds for found from gave get gets getting give given gives giving got had has
have having he he's hence her here him his how i i'd i'll i'm in is it it's its just let's made make makes making me
must my namely need needed needs now number numbers obtain obtained of ok okay old on order our overall pick quantity
respectively result results roughly rounded say she she's should simplified simplifies simplify simply since so solution
solutions sum take takes tall that that's the their them then there there's therefore these they think this those thus
to together told took total totaling totals unit units us using value values was we we'd we'll well were what when which
while who will with would write written yes you your
"""
_MEASURES = """
acre acres amp ampere amperes amps atm aud baht bit bits bpm brl buck bucks byte bytes calorie calories cc celsius cent
centimeter centimeters centimetre centimetres cents centuries century chf cm cny coulomb coulombs cubic cup cups day
days decade decades deg degree degrees dime dimes dinar dinars dirham dirhams dkk dm dollar dollars eur euro euros
fahrenheit farad farads feet foot fps franc francs ft gal gallon gallons gb gbp ghz gm gram grams hectare hectares
henries henry hkd hour hours hp hr hrs hz in inch inches inr joule joules jpy kb kcal kelvin kg kgs khz kilo kilogram
kilograms kilometer kilometers kilometre kilometres kilos km kmh knot knots kpa kph krona kroner kronor krw kw kwh lb
lbs lira liter liters litre litres mb meter meters metre metres mg mhz mi mile miles milligram milligrams milliliter
milliliters millimeter millimeters min mins minute minutes ml mm mol moles month months mph mxn newton newtons nickel
nickels night nights nm nzd ohm ohms ounce ounces oz pascal pascals pennies penny people person peso pesos pint pints
pln pound pounds psi quart quarts rad radian radians rads ringgit rouble roubles rpm ruble rubles rupee rupees sec
second seconds secs sek sgd shekel shekels sq square tablespoon tablespoons tb tbsp teaspoon teaspoons tesla ton tonne
tonnes tons tsp twd um unit units usd volt volts watt watts week weekday weekdays weekend weekends weeks yard yards yd
yds year years yen yuan zar zloty zlotys zł
"""
_THINGS = """
able accessories accident accidentally accommodate according account acorns action activities activity admission adopted
ads adult adults afford age ages agreed agrees air airplane airport album albums alligators allow allowance allowed
almond amusement anagrams angle angles animal animals answered antacids ants apartment apartments apiece appetizer
appetizers apple apples applied apply appointments apps aquarium arcade arcs area arms arrangements arrive arrived
arrives art articles artist asked asks assignment asymptotes athlete athletes attend attendees attending auction aunt
avocados babies baby babysitting backpack backyard bacon badges bag bagels bags baker bakery balance bales ball balloon
balloons balls banana bananas band bandages bands bank banks bar barbara barrel barrels bars baseball based basil basket
basketball basketballs baskets batch batches bath bathroom battery beach beads beakers beans bear bears beat bed bedroom
bedrooms beds beef beer bees began begin beginning bell bench berries bet bicycle bicycles bid bike biked bikes bill
bills bin biology bird birdhouse birds birth birthday biscuits bisectors blankets block blocks blood blouses blueberries
blueberry board boards boat boats bobby body bolts bones bonus book books bookstore booth boots born bottle bottles
bouncy bouquet bouquets bowl bowls box boxes boy boys bracelet bracelets branches brand bread break breakfast breaks
breath bricks bridge broccoli broke bronze brother brothers brownie brownies bucket buckets budget buffet bugs building
buildings bulbs bulk bunch bunches bundles bunnies buns burger burgers burn burned burns burritos bus buses bush bushel
bushels bushes business businesses busy butter butterflies buttons cable cafe cafeteria caffeine cage cake cakes
calculator call called calling calls camera camp campaign campers candidate candies candle candles candy canes cans
capacity cape capital caps car caramel carbon card cardinals cards care cargo carnations carnival carriages carrot
carrots cars cart carton cartons cases cash cashier castle cat cats cattle caused cell center centerpiece central cereal
chain chair chairs chalk chance changed changes changing channels chapter chapters characters charging charity checking
cheese cheesecake cheesecakes chef cherries cherry chess chest chicken chickens child children chip chips chocolate
chocolates choices choir chooses chop chords chores church circle circles cities city class classes classmates classroom
classrooms claws clay cleaned cleaner cleaning client clients climb climbed climbing climbs closed closet clothes
clothing clouds cloves clownfish club coach coal coaster coat coats cobs coconut coconuts codes coffee coin coins collar
collection college color colored colors columns combinations comic comics coming commercials commission committees
community companies company competing competition competitor complaints computer computers concert concrete conditioner
cone cones consists constant construction consume consumed consumes consumption contact contacts container containers
contest continues contribute contributed contribution cookie cookies cookout cool cooler coordinates copies copper corn
coronavirus correctly cotton council counter countries country coupon coupons course courses court cousin cousins cow
cows crabs crackers craft crate crates crayons cream creams create created creates crew crickets croissant croissants
crows cubes cubs cucumbers cupboard cupcakes curlers curries curry customer customers cutlery cuts cutting cycle cycles
dad daisies daisy damaged dance daps dark data daughter daughters deal decide decided decides decimals deck decks
decorate decorations deer delivering delivers delivery department depth desk dessert destination detergent device
diagonals dice die diet dig digits dinner dinners dinosaur direction discount discovered dish dishes display distance
distribute distributed divisors doctor dog dogs doing doll dolls dolphins donation donations done donut donuts door
doors dough doughnuts downhill download downloaded dragon draw drawing drawings draws dress dresses drew driven driver
drums dry dryer duck ducklings ducks dug dye earrings ears earth easter edges egg eggs electric electricity elementary
elements elephant elephants elevation elevator elves emails employee employees enclosures ended energy enrolled enter
entered entrance envelopes episode episodes equipment erasers essay evenly event exam exams exercise exercises expensive
experience express expressed extrema eyes fabric face faces factors factory fair families family far farm farmer farmers
farms fast fat father favorite feathers fed fee feed feeding feeds fees female females fence fencing fertilizer field
figure figures files filling film finding fine fire firecrackers fires firewood fireworks fish fisherman fishes fishing
fit fix flag flags flashlight flat flavored flavors fleas flew flies flight flights flips flock floors flour flower
flowering flowers fly flyers flying fold followers following food footage football forest forgot forks fractions frame
frames french fresh fridge fried friend friends fries frog frogs frosting frozen fruit fruits fudge fuel functions fund
fundraiser funds furniture gallery gallons game games garage garbage garden gas gasoline gather gathered geckos geese
gemstones generation geography giant gift gifts ginger giraffes girl girls glass glasses glue gnomes goal goals goats
gold golden goldfish golf good goods gotten grade graders grades graham grandchildren grandfather grandma grandmother
grandpa grandparents granola grant grape grapes graphs grass groceries grocery groom ground group groups guest guests
guinea guitar guitars gum gumballs gummy guns guppies gym hair haircut haircuts haired hall hallway ham hamburger
hamburgers hand handed hands handshakes hangers hank happy hard harvest harvested hat hats hawks hay head heads heat
heater heels height help hens herself hexagons highlighters highway hike hikes hiking hill hills himself hired hires
history hit hits hive hockey holding hole holes holiday home homeless homes homework honey horse horses horseshoes hose
hospital hotdogs hotel hourly house houses human humans hungry hunt hunter hunting husband ice iced income individual
individuals infected inflate ingredients insects install insurance intake integers intercepts interest internet
intersection intersections intervals inventory invested investment iron island islands issue issues item items itself
jacket jackets jake jam jar jars jean jeans jello jelly jellybeans jellyfish jerky jewelry jewels jimmy job jobs joe
jogging jogs join joined jokes journey juice jumping junior junk kangaroos kernels key keys kibble kid kids kind kinds
king kitchen kite kittens knife knit knives knocked know knowing knows lab labor ladder lady laid lake lambs land lane
lap laps laptop latest lattes lattice laundry lawn lawnmower lawns lay layer lays leaf league leak learn learning
leftover leg lego legos legs lemon lemonade lemons length leopards lesson lessons letter letters lettuce levels library
life lift lifting light lights liked likes lilies lily line lines lion lions lipstick liquid litter little living
lizards load loaded loads loaf loan loaves local located locker logs lollipop lollipops looked looking lot lottery loves
lunch macarons macaroons machine machines magazine magazines magnets mail makeup male males mall man managed manager
manages mango mangoes marathon marble marbles markers market markets marks married marshmallows masks mason master match
matches matchsticks material materials math maths matrices maxima meal meals measure measures measuring meat meatballs
mechanic medals medicine meet meeting member members men messages metal meters mice mike mileage milk milkshakes
millipedes minima minks mirrors mistakes mix mixture mobile model models mom money monkey monkeys monster moon mother
motorcycle motorcycles mountain mouse move moved moves movie movies moving mow mowed mowing mows muffin muffins mugs
multiples mural museum mushrooms music nail nails name named napkins national necklace necklaces neighbor neighborhood
neighbors nephews news newspaper newspapers nice nodes normal normally notebook notebooks notes noticed notices novel
novels numbered numbers nuts oatmeal oats objects occupied ocean octagons offer offered offering offers office oil olive
omelet omelets onions online open opened opens options oranges orchard orchids ordering outcomes outfits outs oven
overtime owner oysters pace package packages packet packets page pages paint painted painting paintings paints pair
pairs palindromes pamphlets pan pancakes panels pans pants papayas paper paperclips papers parents park parking parks
parrot parrots parsley participants particular parts party pass passed passengers passes passing passwords pasta
pastries patch paths patients patty paws paycheck payment payments peach peaches peak peanut peanuts pears pebbles
pelican pen pencil pencils penguins pens pentagons pepper pepperoni peppers perform performance performing perfume
perimeter period permutations personal pet petals pets petunias phone phones photo photographs photos piano pickles
picnic picture pictures pie piece pieces pies pig pigeons piggy pigs pile piles pill pills pine pineapple pins pit pizza
pizzas plain plan plane planes planet planets planks planning plans plants plastic plate plates player players
playground playlist plot plums pocket pods pointers points pokemon poles pollywogs polygon polygons polynomials pond
poodle pool pop popcorn popsicle popsicles population possibilities post postcards posters posts pot potato potatoes
pots pours powder practice practiced practices practicing precious prefer pregnant prepared preparing present presents
press pretzels price priced prices primes printed printer prints prize problems process production products program
project promotion property protein public puffs pull pulled pumped pumpkin pumpkins punch puppies puppy pups purchase
purchased purchases purchasing push pushups putting puzzle puzzles pyramid quadrilaterals quadruples questions quilt
quit quiz quizzes rabbit rabbits race racers racing raft rain rained raisins rancher raspberries rate rats ravioli ray
rays ready realized realizes receiving recently recipe recommended record recorded records rectangle rectangles
recycling refill refrigerator region regions register relay released remain rental repair repairs repeat repeats reports
requests rescue research restaurant retirement return reunion revenue revolutions reward rex ribbon rice rid ring rings
ripe river road robots rock rocks roll roller rolls roof room rooms roots rope roses rotations rotten round rounds route
routes row rows rubber ruby rungs runner runners sacks safe said sail salad salads salary sale sales salesman salmon
salon salt sam sand sandbox sandwich sandwiches sat sauce sausage sausages savings says scarf scarves scenes scholarship
school schools science scoop scoops scout screen sea seagulls seashells season seasons seat seats section sections
sectors seed seedlings seeds segment segments seller semester senior seniors sentence sentences sequences sequins series
service serving servings session sessions sets setting settings sew shampoo shaped shark sharks sheep sheet sheets shelf
shells shelter shelves shift shingles ship shipping shirt shirts shoe shoes shooting shop shopping shore shots show
showed shower shows shrimp siblings sick side sides sidewalk sign signs silk silver silverware sister sisters sit site
sitting situps size skates ski skip skips skirts sky sled sleeping slept slice sliced slices slide smartphone snack
snacks snail snails snake snakes sneakers snow snowballs soap soccer social socks soda sodas sodium soft soil soldiers
solutions solve solving son song songs sons soup sour sours space spacecraft spaces special speed spheres spicy spider
spiders spiral spools spoons sports spot spots spotted spring squares squat squirrel squirrels stack stadium stage
stairs stamp stamps stand standard stands star stars state states station stationery stations statues stay stayed steak
steaks steps stick stickers sticks stitches stock stone stones stop stops storage store stores stories storm story
straight straw strawberries strawberry straws streaming street streets string strings striped stripes student students
studied studies studio study studying stuff stuffed stuffing subjects subscription subsets sugar suit suits summer sun
sunflower sunflowers sunscreen supermarket supplier supplies supply support surface surfers swallows sweater sweaters
sweet sweets swimming sword syrup system systems table tables tabs taco tadpoles tail talking tangents tank tanks tape
task tasks tax taxes tea teach teacher teachers teaches teaching team teams tears teddy teeth television televisions
tells temperature tennis tents terms text textbook textbooks texts theater theme themselves thick thing things thinks
threw throw throwing thrown throws ticket tickets tie ties tiger tile tiles time tins tip tips tire tires tissues toads
toast toddlers toenails toes toilet tokens told toll tomato tomatoes tony tools tooth toothbrushes toothpicks toppings
tosses touchdowns tour tournament towels tower towers town toy toys track tractor tractors trade traded trades trading
traffic trail train trained training trains translates transport trash tray trays treasure treat treats tree trees
triangle triangles tricycle trinkets trip triples trips trolls trout truck trucks tub tubes tubs tuition tulips tuna
tuples turkey turkeys turns turtle turtles twigs twin twins type types typical typing uncle uniforms unused upcoming
usual utensils utilities vacation vacuum valley vampire vampires vanilla various vase vectors vegetable vegetables
vehicle vehicles velvet vendor vertices vet video videos vinegar visit visited visitors visits volume voting wage wages
wait waiting wall wallet walls walnuts warehouse wash washed washes washing water watermelon watermelons wave wax way
ways wear wearing wears web website wedding weeds weight weights whales wheel wheels whiskers widget widgets width wife
window windows wine wings winner winter wipes wire woman women wood wooden wool word words wore worker workers world
worms wrap wrapping yarn yogurt zebra zebras zeroes zeros zombies zoo
"""
_DOING = """
afternoon annual annually ate attended available bake baked bakes baking became become becomes black blue borrow
borrowed bought bring bringing brings brought brown build builds built buy buying buys carried carries carry carrying
catch catches caught charge charged charges clean cold collect collected collecting collects complete completed
completes congruent consecutive contain contained containing contains cook cooked cooking cooks cost costs cover covered
covers daily deep deliver delivered deliveries deposit deposited distinct donate donated donates drank drink drinking
drinks drive drives driving drove earn earned earning earnings earns eat eaten eating eats even evening expected expense
expenses fill filled fills finish finished finishes finishing forward free gain gained gains go goes going gone gray
green grew grey grow growing grown grows heavy held high hold holds hot identical increase increased inside integer
invited jump jumped jumps keep keeps kept last lasted lasts leave leaves leaving left live lived lives long monthly
morning natural new odd orange ordered orders own owned owns pack packed packing packs paid pay paying pays perfect
picked picking picks pink place placed places planned plant planted planting play played playing plays prime produce
produced produces profit profits purple put puts ran reach reached reaches read reading reads real receive received
receives rectangular red regular remaining rent rented require required requires ride rides riding rode run running runs
save saved saves saving saw see seen sees sell selling sells send sends sent serve served serves similar sized sleep
sleeps sold spend spending spends spent start started starting starts strictly swam swim swims today tomorrow travel
traveled traveling travels use used uses walk walked walking walks want wanted wants watch watched watches watching
weekly weigh weighed weighing weighs went white wide win winning wins won work worked working works writes writing wrote
yearly yellow yesterday young
"""
_NAMES = """
aaron abigail adam ahmed alan albert alex alexander alexis ali alice alicia alison allen allison alma alvin alyssa
amanda amelia amy ana andrea andrew andy angela angie ann anna anne annie anthony antonio arnold arthur ashley austin
ava bailey barney barry bea beatrice becky bella ben benjamin benny bernie bert beth bethany betsy betty biff billy
blake bob boris brad brady brandon brenda brendan brian brianna bridget brittany brooke bruce bryan caleb calvin camden
cameron cara carl carla carlos carly carmen carol carolyn carrie carson carter cary casey cathy celine chad charles
charlie charlotte cheryl chloe chris christina christine christopher cindy claire clara cody cole conner connie connor
corey craig cynthia dale dan dana daniel danielle danny dante darcy daria darrel dave david dawn dennis derek devin
dexter diana diane diego donna donny dora dorothy dr dylan ed eliza elizabeth ella ellen ellie elsa emily emma eric
erica erika erin ernie evan evelyn fabian felix ferris finley fiona frances frank frankie fred freddy gabriel gary
george georgia gerald gina gloria grace grayson greg greta gretchen haley hannah hans harold harriet harry hazel helen
hillary holly hugo ian isabel isabella ivan jackie jackson jacob jamal james jamie jan jana jane janet janice jared
jason jasper javier jay jayden jed jeff jen jenna jennifer jenny jensen jeremy jerome jerry jess jesse jessica jessie
jill jim joan joanna joel joey john johnny johnson jon jonah jonathan jones jordan jorge jose joseph josh joshua joy
juan jude judy julia julian julie julio justin karen kate katherine kathleen katie katrina katy kaydence kayla kekai
kelly kelsey ken kendra kenneth kenny kevin kim kira kris kristin kyle kylie lana lance lara larry laura lauren layla
leah lee leila lena leo liam linda lindsay lindsey lisa liz liza lola lou louie louise lucas lucille lucy luke lulu luna
lydia mabel mack maddie madeline maggie malcolm mandy manny mara marcel marcia marco marcus marcy maria marie mario
marissa markus marla marta martha martin marvin mary matt matthew maurice maya megan melanie melissa mia micah michael
michelle mickey milly milo miriam mitchell molly mona monica mr mrs nancy naomi natalie nate nathan navin neil nick
nicole nina noah olaf oliver olivia oscar pam parker pat patricia patrick paul paula pauline pedro peggy perry pete
peter phil philip phoebe polly quinn rachel ralph randy raymond rebecca reese reggie remi remmy rhonda richard rick
riley rita rob robert rodney roger ron rory rosie roy rudy ryan sabrina sally samantha sammy samuel san sandra sandy
sara sarah sasha scott sean sebastian selena seth shane sharon shawna sheila shelby shelly sid sidney simon smith
solomon sophia sophie stacy stan stanley stephanie stephen steve steven sue susan susie sydney tabitha talia tammy tanya
tara taylor ted teresa terry theo theresa thomas tiffany tim timothy tina tobias toby todd tommy tonya tory tracy travis
trent trevor trey tyler tyson ursula veronica victor vincent walter wanda wendi wendy whitney william xavier yasmin york
zach zachary zack zion zoe
"""
_WHAT_IS_MEANT = """
added adding after amount angle any area asymptote average axis before between both case cases center chance change
chosen circle circumference coefficient coefficients color combining common compound cone conic constant coordinate
coordinates cube cubed curve cylinder decimal decrease decreased degree determinant diameter difference different digit
digits directrix discount distance distances divided dividing divisible divisor domain edge edges eight element elements
ellipse ellipsoid enclosed equation equilateral exists expression face faces factor factors fewer fifth figure first
five foci focus formed four fourth fraction function gain given graph greater greatest half height hexagon highest
horizontal hyperbola if increase increased inequality inside integer integers intercept interest intersect inverse
isosceles larger largest last least left length letter lie lies line lines logarithm loss lowest magnitude many matrix
maximal maximum mean measure median minimal minimum mode more most much multiple multiples multiplied multiplying must
name new next nine number numbers octagon odds older one only optimal ordered origin original other outside over pair
pairs parabola parallel pentagon percent percentage perimeter plane point points polygon polynomial positive possible
power powers price prime primes prism probability product profit pyramid quadrilateral quotient radius randomly range
rate ratio real reciprocal rectangle rectangular region regular remainder remaining representation right root roots same
second segment segments selected semicircle sequence series set seven shaded shape side sides simple single six slope
smaller smallest speed sphere square squared strictly substituting subtracted subtracting such sum system tangency
tangent ten term terminating terms than third three trapezoid triangle two valid variable variables vector vectors
vertex vertical vertices volume way ways where width younger
"""

FUNCTION = frozenset(_SAYING_NOTHING.split())
"""Words that say nothing beside a number."""
UNITS = frozenset(_MEASURES.split())
"""Units, which are not compared; they may stand on a digit and have a power."""
NOUNS = frozenset(_THINGS.split())
"""What is counted."""
OTHERS = frozenset((_DOING + _NAMES).split())
"""Verbs, adjectives and names: harmless in an answer, but part of what a gold says."""
SUBJECT = frozenset(_WHAT_IS_MEANT.split())
"""Words that may also stand before "is", where they say what is meant and not how much."""
EXTREMES = frozenset(
    ["fewest", "greatest", "highest", "largest", "least", "longest", "lowest", "maximum", "minimum", "most"]
)
"""After one of these "could" is no doubt: the most that he could get."""
JOINS = frozenset(["and", "or"])


def is_harmless(word: str, as_gold: bool) -> bool:
    """Whether a word changes nothing; what a gold says beside its number counts more than what an answer does."""
    return word in FUNCTION or word in UNITS or word in NOUNS or word in JOINS or (word in OTHERS and not as_gold)


def in_subject(word: str) -> bool:
    """Whether a word may stand before "is", where it says what is meant."""
    return is_harmless(word, as_gold=False) or word in SUBJECT or len(word) == 1
